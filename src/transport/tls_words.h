// What users are told of a peer with which TLS does not come about. It depends on what the peer is, for them: whoever
// knows that has the words. "It" is the peer, named before them; what to do comes last.
#pragma once

namespace hecaton {

struct TlsWords {
  const char* no_tls;               // it speaks none
  const char* wrong_token;          // it has another one
  const char* wants_token;          // and was offered a certificate
  const char* wants_certificates;   // and was offered a token
  const char* bad_certificate;      // its own
  const char* refused_certificate;  // ours
  const char* otherwise;
};

extern const TlsWords kWordsOfDonors;

}  // namespace hecaton
