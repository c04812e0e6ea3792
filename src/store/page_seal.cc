#include "store/page_seal.h"

#include <openssl/evp.h>
#include <sys/mman.h>

#include <cstring>
#include <new>

#include "base/random.h"

namespace hecaton {
namespace {

using Nonce = std::array<unsigned char, 12>;
using Bound = std::array<unsigned char, 12>;

template <typename Integer>
void put_little_endian(Integer value, unsigned char* out) {
  for (size_t i = 0; i < sizeof value; ++i) out[i] = static_cast<unsigned char>(value >> 8 * i);
}

// 32 bits of zeros, and the number.
Nonce nonce_of(uint64_t number) {
  Nonce nonce{};
  put_little_endian(number, nonce.data() + 4);
  return nonce;
}

Bound bound_of(PageNumber page, uint32_t version) {
  Bound bound;
  put_little_endian(page.value, bound.data());
  put_little_endian(version, bound.data() + 8);
  return bound;
}

const unsigned char* in(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* out(std::byte* bytes) {
  return reinterpret_cast<unsigned char*>(bytes);
}

}  // namespace

SealState SealState::at(std::byte* memory, uint64_t pages) {
  static_assert(sizeof(SealHead) <= kHeadBytes && sizeof(SealRecord) == 24);
  return {reinterpret_cast<SealHead*>(memory), {reinterpret_cast<SealRecord*>(memory + kHeadBytes), pages}};
}

Result<void> SealState::lock() const {
  if (mlock(head, kHeadBytes) != 0)
    return system_error("locking the seal's key in memory (`ulimit -l` must allow a page)");
  return {};
}

void SealState::make_key() const {
  HEC_CHECK(head->numbers_given.load() == 0);
  fill_random(head->key);
}

void PageSeal::Free::operator()(evp_cipher_ctx_st* context) const {
  EVP_CIPHER_CTX_free(context);  // wipes its copy of the key
}

Result<PageSeal> PageSeal::create(const SealState& state) {
  const Error missing{ErrorCode::kUnsupported, 0, "this machine's OpenSSL has no AES-256-GCM"};
  struct FreeCipher {
    void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
  };
  // Fetched once: to look it up again for each page would cost more than a short page does.
  const std::unique_ptr<EVP_CIPHER, FreeCipher> cipher(EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr));
  Context sealer(EVP_CIPHER_CTX_new()), opener(EVP_CIPHER_CTX_new());
  if (!cipher || !sealer || !opener) return missing;
  const unsigned char* key = in(state.head->key.data());
  if (EVP_EncryptInit_ex2(sealer.get(), cipher.get(), key, nullptr, nullptr) != 1 ||
      EVP_DecryptInit_ex2(opener.get(), cipher.get(), key, nullptr, nullptr) != 1) {
    return missing;
  }
  return PageSeal(state, std::move(sealer), std::move(opener));
}

std::optional<PageSeal> PageSeal::of(const std::optional<SealState>& state) {
  return state ? std::optional(create(*state).value()) : std::nullopt;
}

void PageSeal::seal(PageNumber page, uint32_t version, std::span<const std::byte> plain, std::byte* sealed) {
  HEC_CHECK(page.value < state_.records.size());
  SealRecord& record = state_.records[page.value];
  record.number = state_.head->numbers_given.fetch_add(1) + 1;
  const Nonce nonce = nonce_of(record.number);
  const Bound bound = bound_of(page, version);
  EVP_CIPHER_CTX* context = sealer_.get();
  int written = 0;
  HEC_CHECK(EVP_EncryptInit_ex2(context, nullptr, nullptr, nonce.data(), nullptr) == 1);
  HEC_CHECK(EVP_EncryptUpdate(context, nullptr, &written, bound.data(), bound.size()) == 1);
  HEC_CHECK(EVP_EncryptUpdate(context, out(sealed), &written, in(plain.data()), static_cast<int>(plain.size())) == 1);
  HEC_CHECK(static_cast<size_t>(written) == plain.size());
  HEC_CHECK(EVP_EncryptFinal_ex(context, out(sealed) + written, &written) == 1);
  HEC_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, record.tag.size(), record.tag.data()) == 1);
}

bool PageSeal::open(PageNumber page, uint32_t version, std::span<const std::byte> sealed, std::byte* plain) {
  HEC_CHECK(page.value < state_.records.size());
  SealRecord& record = state_.records[page.value];
  if (record.number == 0) return false;
  const Nonce nonce = nonce_of(record.number);
  const Bound bound = bound_of(page, version);
  EVP_CIPHER_CTX* context = opener_.get();
  int written = 0;
  HEC_CHECK(EVP_DecryptInit_ex2(context, nullptr, nullptr, nonce.data(), nullptr) == 1);
  HEC_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, record.tag.size(), record.tag.data()) == 1);
  HEC_CHECK(EVP_DecryptUpdate(context, nullptr, &written, bound.data(), bound.size()) == 1);
  HEC_CHECK(EVP_DecryptUpdate(context, out(plain), &written, in(sealed.data()), static_cast<int>(sealed.size())) == 1);
  return EVP_DecryptFinal_ex(context, out(plain) + written, &written) == 1;
}

}  // namespace hecaton
