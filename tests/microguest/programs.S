# Small programs that test whether memory is coherent. Each runs at every node, as a guest's processor in ring 3 or as a
# plain thread: position-independent, no stack but the return address, no register that a function must keep.
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
.global micro_ticket_lock, micro_producer_consumer
.set PAGE, 4096

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

# Node 0 writes data (page 0), then a flag (page 1). Who sees the flag sees the data. Page 2: node 1 has seen it.
micro_message_passing:
  xor eax, eax
  mov r9d, 1
  cmp rsi, 1
  je 4f
  ja 7f
1:
  lea r10, [r9 - 1]
2:
  cmp [rdi + 2 * PAGE], r10
  jae 3f
  pause
  jmp 2b
3:
  mov [rdi], r9
  mov [rdi + PAGE], r9
  inc r9
  dec rcx
  jnz 1b
  ret
4:
  mov r10, [rdi + PAGE]
  cmp r10, r9
  jae 5f
  pause
  jmp 4b
5:
  cmp [rdi], r10
  jae 6f
  inc rax
6:
  mov [rdi + 2 * PAGE], r9
  inc r9
  dec rcx
  jnz 4b
7:
  ret

# Nodes 0 and 1 each write their page, and then read the other's: with a fence between, one of them sees the other.
# What was read goes to [r8].
micro_store_buffering:
  xor eax, eax
  cmp rsi, 1
  ja 4f
  mov r9d, 1
  mov r10, rsi
  shl r10, 12
  lea r11, [rdi + PAGE]
  sub r11, r10                  # the other's
  add r10, rdi                  # mine
1:
  lea rdx, [r9 - 1]
2:
  cmp [r11], rdx
  jae 3f
  pause
  jmp 2b
3:
  mov [r10], r9
  mfence
  mov rdx, [r11]
  mov [r8], rdx
  add r8, 8
  inc r9
  dec rcx
  jnz 1b
4:
  ret

# Independent reads of independent writes. Nodes 0 and 1 write page 0 and page 1; nodes 2 and 3 read both, each beginning
# with another one, and must not see the writes in different orders. Pages 2 and 3: how far the readers are.
micro_iriw:
  xor eax, eax
  mov r9d, 1
  mov r10, rsi
  shl r10, 12
  add r10, rdi                  # a writer's page; a reader's progress
  cmp rsi, 2
  jae 4f
1:
  lea r11, [r9 - 1]
2:
  cmp [r10 + 2 * PAGE], r11
  jae 3f
  pause
  jmp 2b
3:
  mov [r10], r9
  inc r9
  dec rcx
  jnz 1b
  ret
4:
  lea r11, [r10 - 2 * PAGE]     # read first
  mov rdx, rdi
  add rdx, rdi
  add rdx, PAGE
  sub rdx, r11                  # read second: the other of the two
5:
  mov rsi, [r11]
  cmp rsi, r9
  jae 6f
  pause
  jmp 5b
6:
  mov rdi, [rdx]
  mov [r8], rsi
  mov [r8 + 8], rdi
  add r8, 16
  mov [r10], r9
  inc r9
  dec rcx
  jnz 5b
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
