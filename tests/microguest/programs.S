# Small programs that test whether memory is coherent. Each runs at every node, as a guest's processor in ring 3 or as a
# plain thread: position-independent, with little stack; registers that a function must keep are kept.
#
#   rdi  guest memory                 rcx  how many runs, at least 1
#   rsi  this node's number           r8   words of this node's own, for what it saw
#   rdx  how many nodes               rax  returned: how often something was seen that cannot be
#
# PAGE k is the k-th page of guest memory. Values only grow, so that runs need not be told apart by emptying memory.
.intel_syntax noprefix
.section .text
.global micro_begin, micro_end
.global micro_increments, micro_false_sharing, micro_message_passing, micro_store_buffering, micro_iriw
.global micro_ticket_lock, micro_mcs_lock, micro_producer_consumer, micro_random
.set PAGE, 4096
.set PLACE, 8
.set TIME, 15

micro_begin:

# All nodes add to one word.
micro_increments:
  xor eax, eax
1:
  lock inc qword ptr [rdi]
  dec rcx
  jnz 1b
  ret

# Each node counts in a word of its own, all in one page, and finds what it wrote.
micro_false_sharing:
  xor eax, eax
  xor r9d, r9d
1:
  cmp [rdi + rsi * 8], r9
  je 2f
  inc rax
2:
  inc r9
  mov [rdi + rsi * 8], r9
  dec rcx
  jnz 1b
  ret

# The litmus tests. A round has 512 runs, each with words of its own: word i of page 0 and of page 1. All nodes begin a round
# together, which they arrange on page 2, and write the round's number: a run sees that, which is new, or the one before.
#
# In each run a node does two things, one after the other. It does the first for a group of runs and then the second, in
# groups of 1 to 128 runs, another size each round. Between groups it loses a little time, as chance will have it, or
# between the two things: so nodes overtake each other, and pages move, in the middle of runs.
#
#   rsi, rdx  the page of the first thing, of the second     r9, r10  the group's runs, from and to
#   rbx  rounds left     r12  round     rbp  runs in a group     r8  what this round saw: 512 words for each that is read
#   r13  arrivals on page 2 that begin this round               r14  nodes     r15  chance     rax, r11  anything

.macro litmus_begin
  push rbx
  push rbp
  push r12
  push r13
  push r14
  push r15
  mov rbx, rcx
  shr rbx, 9
  xor r12d, r12d
  xor r13d, r13d
  mov r14, rdx
  lea r15, [rsi + 1]
.endm

.macro store page
  mov r11, r9
1:
  mov [\page + r11 * 8], r12
  inc r11
  cmp r11, r10
  jb 1b
.endm

.macro load page, into
  mov r11, r9
1:
  mov rax, [\page + r11 * 8]
  mov [r8 + r11 * 8 + \into], rax
  inc r11
  cmp r11, r10
  jb 1b
.endm

# In rounds whose number has the bit PLACE (with `jz`) or has it not (`jnz`): lose up to 2^TIME cycles or so for each run.
.macro lose_time unless
  test r12d, PLACE
  \unless 2f
  imul r15, r15, 0x5851f42d
  add r15, 0x14057b7f
  mov r11, r15
  shr r11, 64 - TIME
  imul r11, rbp
1:
  sub r11, 1
  jnc 1b
2:
.endm

# All rounds of a node, and back to the caller. `words`: how many it puts down for each run.
.macro litmus first, second, words
10:
  inc r12
  add r13, r14
  lock inc qword ptr [rdi + 2 * PAGE]
11:
  cmp [rdi + 2 * PAGE], r13
  jae 12f
  pause
  jmp 11b
12:
  mov ecx, r12d
  and ecx, 7
  mov ebp, 1
  shl ebp, cl
  xor r9d, r9d
13:
  lea r10, [r9 + rbp]
  lose_time jnz
  \first
  lose_time jz
  \second
  mov r9, r10
  cmp r9, 512
  jb 13b
  add r8, \words * PAGE
  dec rbx
  jnz 10b
  jmp litmus_end
.endm

# Node 0 writes data, then a flag. Node 1 reads the flag, then the data: who sees the flag sees the data.
micro_message_passing:
  litmus_begin
  lea rdx, [rdi + PAGE]
  test rsi, rsi
  mov rsi, rdi
  jnz 20f
  litmus "store rsi", "store rdx", 0
20:
  xchg rsi, rdx
  litmus "load rsi, 0", "load rdx, PAGE", 2

.macro fence_and_load
  mfence
  load rdx, 0
.endm

# Nodes 0 and 1 each write their page, and then read the other's: with a fence between, one of them sees the other.
micro_store_buffering:
  litmus_begin
  mov rdx, rsi
  xor edx, 1
  shl rsi, 12
  shl rdx, 12
  add rsi, rdi
  add rdx, rdi
  litmus "store rsi", fence_and_load, 1

# Independent reads of independent writes. Nodes 0 and 1 write page 0 and page 1; nodes 2 and 3 read both, each beginning
# with another one, and must not see the writes in different orders.
micro_iriw:
  litmus_begin
  mov rdx, rsi
  and esi, 1
  shl rsi, 12
  add rsi, rdi                  # written; or read first
  cmp rdx, 2
  jae 20f
  litmus "store rsi", "", 0
20:
  lea rdx, [rdi + rdi + PAGE]
  sub rdx, rsi                  # read second: the other of the two
  litmus "load rsi, 0", "load rdx, PAGE", 2

litmus_end:
  xor eax, eax
  pop r15
  pop r14
  pop r13
  pop r12
  pop rbp
  pop rbx
  ret

# A lock that serves in the order of asking: tickets on page 0, who is served on page 1; it guards a word on page 2.
micro_ticket_lock:
1:
  mov eax, 1
  lock xadd [rdi], rax
2:
  cmp [rdi + PAGE], rax
  je 3f
  pause
  jmp 2b
3:
  mov r9, [rdi + 2 * PAGE]
  inc r9
  mov [rdi + 2 * PAGE], r9
  inc rax
  mov [rdi + PAGE], rax
  dec rcx
  jnz 1b
  xor eax, eax
  ret

# The lock of Mellor-Crummey and Scott: each waits at a word of its own. Page 0: who came last, its number and 1; 0: nobody.
# Page 4 + k: of node k, who comes after it, and whether it waits. It guards a word on page 1.
micro_mcs_lock:
  lea r10, [rsi + 1]
  lea r9, [rsi + 4]
  shl r9, 12
  add r9, rdi                   # mine
1:
  mov qword ptr [r9], 0
  mov qword ptr [r9 + 8], 1
  mov r11, r10
  xchg r11, [rdi]
  test r11, r11
  jz 3f
  add r11, 3
  shl r11, 12
  mov [rdi + r11], r10          # who was last learns who comes after it
2:
  cmp qword ptr [r9 + 8], 0
  je 3f
  pause
  jmp 2b
3:
  mov rdx, [rdi + PAGE]
  inc rdx
  mov [rdi + PAGE], rdx
  mov rdx, [r9]
  test rdx, rdx
  jnz 5f
  mov rax, r10
  lock cmpxchg [rdi], rdx       # rdx is 0: nobody, if I am still the last
  jz 6f
4:
  mov rdx, [r9]
  test rdx, rdx
  jnz 5f
  pause
  jmp 4b
5:
  add rdx, 3
  shl rdx, 12
  mov qword ptr [rdi + rdx + 8], 0
6:
  dec rcx
  jnz 1b
  xor eax, eax
  ret

# Reads and writes words at random, all over guest memory. Every fourth word is this node's to write: it finds there what it
# wrote last. Words of others only grow. [r8]: what each word was when this node saw it last.
micro_random:
  xor eax, eax
  mov r9d, 1
  lea r10, [rsi + 1]
  imul r10, r10, 0x61c88647
1:
  mov r11, r10
  shl r11, 13
  xor r10, r11
  mov r11, r10
  shr r11, 7
  xor r10, r11
  mov r11, r10
  shl r11, 17
  xor r10, r11
  mov r11d, r10d
  and r11d, 8191                # the word
  mov edx, r11d
  and edx, 3                    # whose it is
  cmp rdx, rsi
  mov rdx, [rdi + r11 * 8]
  je 3f
  cmp rdx, [r8 + r11 * 8]
  jae 2f
  inc rax
2:
  mov [r8 + r11 * 8], rdx
  jmp 5f
3:
  cmp rdx, [r8 + r11 * 8]
  je 4f
  inc rax
4:
  bt r10, 20
  jnc 5f
  mov [rdi + r11 * 8], r9
  mov [r8 + r11 * 8], r9
5:
  inc r9
  dec rcx
  jnz 1b
  ret

# Node 0 puts items into a ring (pages 2 and 3, each item with its complement), node 1 takes them out in order.
# Page 0: how many were put; page 1: how many were taken.
micro_producer_consumer:
  xor eax, eax
  xor r9d, r9d
  cmp rsi, 1
  je 4f
  ja 8f
1:
  mov r10, r9
  sub r10, [rdi + PAGE]
  cmp r10, 512
  jb 2f
  pause
  jmp 1b
2:
  mov r10, r9
  and r10d, 511
  shl r10d, 4
  imul r11, r9, 0x61c88647
  mov [rdi + r10 + 2 * PAGE], r11
  not r11
  mov [rdi + r10 + 2 * PAGE + 8], r11
  inc r9
  mov [rdi], r9
  dec rcx
  jnz 1b
  ret
4:
  cmp [rdi], r9
  ja 5f
  pause
  jmp 4b
5:
  mov r10, r9
  and r10d, 511
  shl r10d, 4
  imul r11, r9, 0x61c88647
  cmp [rdi + r10 + 2 * PAGE], r11
  jne 6f
  not r11
  cmp [rdi + r10 + 2 * PAGE + 8], r11
  je 7f
6:
  inc rax
7:
  inc r9
  mov [rdi + PAGE], r9
  dec rcx
  jnz 4b
8:
  ret

micro_end:
.section .note.GNU-stack, "", @progbits
