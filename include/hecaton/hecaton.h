/* Hecaton's C interface: memory of this process whose pages live on other machines.
 *
 *   hecaton_config config = { sizeof config, 1ull << 30, 256ull << 20, NULL, 0 };
 *   hecaton_region *region;
 *   void *memory;
 *   int error = hecaton_open(&config, &region, &memory);
 *   if (error) { fprintf(stderr, "%s\n", hecaton_strerror(error)); ... }
 *   ... use memory[0 .. bytes) like any other, from any thread ...
 *   hecaton_close(region);
 *
 * The region starts as zeros. At most `local_bytes` of it are in this machine's RAM; the rest is at the nodes (machines
 * that run hecatond), and comes back when it is touched.
 *
 * What does not work on such memory, because the kernel pins its pages behind the pager's back: O_DIRECT I/O, io_uring
 * fixed buffers, RDMA, vmsplice with SPLICE_F_GIFT. A child after fork() does not have the region. madvise with
 * MADV_DONTNEED or MADV_REMOVE discards: the range reads as zeros afterwards (a page that is
 * being fetched ahead at that very moment may show its old bytes for an instant more; what is written to it stays).
 *
 * Nodes on other machines need a token, the one that hecatond --token-file prints there: with it both sides prove who
 * they are, and page traffic is encrypted. Without, they are refused, unless the environment variable HECATON_INSECURE
 * is 1: say so only on a network that is yours alone.
 *
 * If memory is lost (a node dies, a page comes back damaged), the process says so on stderr and aborts: it never reads
 * zeros or old bytes. Needs Linux 5.19 and the right to use userfaultfd (root, CAP_SYS_PTRACE, or access to
 * /dev/userfaultfd). All functions may be called from any thread; a region is closed once, by one thread, when no other
 * touches it.
 */
#ifndef HECATON_HECATON_H
#define HECATON_HECATON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HECATON_API __attribute__((visibility("default")))

typedef struct hecaton_region hecaton_region;

typedef struct {
  size_t struct_size;   /* sizeof(hecaton_config): lets later versions add fields, which are then as if 0 */
  uint64_t bytes;       /* of the region; rounded up to whole pages of 4096 */
  uint64_t local_bytes; /* how much may be resident; at least 1 MiB; bytes or more: all of it */
  const char* const*
      nodes;       /* URLs "[hecaton://][TOKEN@]HOST[:PORT]", NULL-ended; NULL: an embedded donor in this process */
  unsigned shards; /* threads that serve page faults, 1 to 16; 0: one for every four processors, at most 8 */
  uint64_t flags;  /* HECATON_SEAL, or 0 */
} hecaton_config;

/* Flags. */
enum {
  /* Every page is encrypted and authenticated (AES-256-GCM) before it leaves this process, under a key that never does:
   * nodes can neither read, change nor replay one. A page that comes back otherwise than it was sealed is memory lost.
   * The key is in this process's memory, and a core dump may have it: see setrlimit(RLIMIT_CORE). Pages are not
   * compressed then, because the length of a compressed page tells about its content. */
  HECATON_SEAL = 1
};

/* Errors, all negative. */
enum {
  HECATON_OK = 0,
  HECATON_EINVAL = -1,       /* a field of the configuration is wrong */
  HECATON_EKERNEL = -2,      /* this kernel lacks userfaultfd features that paging needs */
  HECATON_EPERM = -3,        /* no right to use userfaultfd */
  HECATON_EUNREACHABLE = -4, /* a node cannot be reached, speaks another protocol, or wants another token */
  HECATON_EFULL = -5,        /* the nodes have too little memory free */
  HECATON_ENOMEM = -6,       /* this machine gave no memory, address space or descriptors */
  HECATON_ESYSTEM = -7       /* another system call failed */
};

/* Opens a region. On success 0, the region in *out and its first byte's address (page-aligned) in *address. Otherwise a
 * negative error; hecaton_strerror() then tells the calling thread's last failure in full. */
HECATON_API int hecaton_open(const hecaton_config* config, hecaton_region** out, void** address);

/* Writes the region's figures as a JSON object, NUL-ended and cut to `size`. Returns the length it needs, as snprintf
 * does, or a negative error. */
HECATON_API int hecaton_stats_json(hecaton_region* region, char* buffer, size_t size);

/* Unmaps the region and frees its memory here and at the nodes. NULL is allowed. */
HECATON_API int hecaton_close(hecaton_region* region);

/* What an error means. If it is the one that the calling thread got last, with names and figures. Never NULL; valid
 * until the thread's next call. */
HECATON_API const char* hecaton_strerror(int error);

#ifdef __cplusplus
}
#endif

#endif
