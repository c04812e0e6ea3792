/* The coherence protocol for one page, for spin. The rules are those of the C++ core: node_rules.inc and home_rules.inc
 * are included here, each rule an option of a choice. What is around them (classifying messages, the queue) is written
 * once more, independently.
 *
 * N nodes, node 0 the home. A guest on each reads and writes for ever, or ACCESSES times. The node's two roles, and the home, have channels
 * of their own, so that even what the core says to itself takes its time. An order of the home waits until a guest that
 * was woken has had its access: that is the hold.
 *
 * Checked: what is read or written is what was written last; one writer or many readers; nothing is sent while it can
 * still be written; no rule is missing; no deadlock; and no circle of states in which no guest gets on (spin -l).
 */
#ifndef N
#define N 3
#endif
#define HOME 0
#define NONE 9 /* no bytes */
#define bit_of(node) (1 << (node))

mtype = { ns_Invalid, ns_Untouched, ns_Shared, ns_Clean, ns_Exclusive, ns_AsksRead, ns_AsksWrite, ns_AsksUpgrade,
          ns_Gathers, ns_Lost,
          ne_ReadFault, ne_WriteFault, ne_FetchShared, ne_FetchExclusive, ne_Invalidate, ne_Upgrade, ne_UpgradeThenWait,
          ne_Copy, ne_PageToRead, ne_Page, ne_PageThenWait,
          ne_CopyOfHome, ne_PageToReadOfHome, ne_PageOfHome, ne_Forgotten, ne_LastForgotten, ne_Lost,
          hs_Exclusive, hs_Shared, hs_Reading, hs_Moving, hs_Lost,
          he_Read, he_MigrantRead, he_Write, he_Upgrade, he_Behind, he_Done, he_DoneOfSome,
          m_Read, m_Write, m_Done, m_FetchShared, m_FetchExclusive, m_Invalidate, m_Upgrade, m_Shared, m_Exclusive,
          m_Forgotten };

/* kind, requester, await, to_read, unwritten, value */
chan of_home[N] = [4] of { mtype, byte, byte, bool, bool, byte };   /* from the home, in either role, to each node */
chan of_nodes[N * N] = [2] of { mtype, byte, byte, bool, bool, byte }; /* between nodes: from * N + to */
chan to_home[N] = [2] of { mtype, bool };                            /* kind, unwritten; from each node */
chan queue = [N] of { byte, bool };                                  /* who waits at the home, and whether to write */

byte newest; /* what was written last, modulo 3 */

/* Of each node. */
mtype state[N];
byte mapped[N]; /* 0: not, 1: for reading, 2: for writing */
byte bytes[N];
bool waits[N], woken[N];
byte await[N], forgotten[N];
bool granted[N], giver_had_not_written[N];

/* Of the home. */
mtype home = hs_Exclusive;
byte sharers = bit_of(HOME), owner = HOME, in_service, writes_wait;
bool migratory;

#define DO_None skip
#define DO_AskRead to_home[me]!m_Read, false
#define DO_AskWrite to_home[me]!m_Write, false
#define DO_MakeZero bytes[me] = 0
#define DO_Keep bytes[me] = value
#define DO_MapRead mapped[me] = 1; wake(me)
#define DO_MapWrite mapped[me] = 2; wake(me)
#define DO_Protect mapped[me] = (mapped[me] == 2 -> 1 : mapped[me])
#define DO_Zap mapped[me] = 0
#define DO_Drop assert(mapped[me] == 0); bytes[me] = NONE
#define DO_SendCopy assert(mapped[me] != 2); give(m_Shared, 0, false)
#define DO_SendPage assert(mapped[me] == 0); give(m_Exclusive, others, to_read)
#define DO_Confirm of_nodes[me * N + requester]!m_Forgotten, 0, 0, false, false, 0
#define DO_SendDone to_home[me]!m_Done, unwritten
#define DO_Fail assert(false)

#define NODE_RULE(from, on, next, first, second, third) \
  :: state[me] == ns_##from && event == ne_##on -> state[me] = ns_##next; DO_##first; DO_##second; DO_##third

inline wake(node) {
  assert(bytes[node] != NONE);
  woken[node] = woken[node] || waits[node];
  waits[node] = false
}

/* Who gets it from the home, and waits for nobody, is done. */
inline give(what, whom, reads) {
  if
  :: me == HOME ->
     of_home[requester]!what, 0, whom, reads, had_not_written, bytes[me];
     if
     :: whom == 0 -> to_home[requester]!m_Done, had_not_written
     :: else
     fi
  :: else -> of_nodes[me * N + requester]!what, 0, whom, reads, had_not_written, bytes[me]
  fi
}

inline apply_node() {
  had_not_written = state[me] == ns_Clean || state[me] == ns_Untouched;
  if
#include "coherence/node_rules.inc"
  :: else -> assert(false) /* no such rule */
  fi;
  if
  :: state[me] != ns_AsksWrite && state[me] != ns_AsksUpgrade && state[me] != ns_Gathers ->
     await[me] = 0; forgotten[me] = 0; granted[me] = false
  :: else
  fi
}

#define all_forgot (granted[me] && (await[me] & ~forgotten[me]) == 0)

inline note_grant() {
  granted[me] = true;
  await[me] = others;
  giver_had_not_written[me] = unwritten
}

inline classify() {
  if
  :: kind == m_FetchShared -> event = ne_FetchShared
  :: kind == m_FetchExclusive -> event = ne_FetchExclusive
  :: kind == m_Invalidate -> event = ne_Invalidate
  :: kind == m_Shared -> event = (by_home -> ne_CopyOfHome : ne_Copy)
  :: kind == m_Upgrade -> note_grant(); event = (all_forgot -> ne_Upgrade : ne_UpgradeThenWait)
  :: kind == m_Exclusive && to_read -> assert(others == 0); event = (by_home -> ne_PageToReadOfHome : ne_PageToRead)
  :: kind == m_Exclusive && !to_read -> 
     note_grant();
     event = (!all_forgot -> ne_PageThenWait : (by_home && others == 0 -> ne_PageOfHome : ne_Page))
  :: kind == m_Forgotten ->
     forgotten[me] = forgotten[me] | bit_of(from);
     if
     :: all_forgot -> event = ne_LastForgotten; unwritten = giver_had_not_written[me]
     :: else -> event = ne_Forgotten
     fi
  fi
}

inline check_mappings() {
  byte other;
  for (other : 0 .. N - 1) {
    assert(other == me || mapped[me] != 2 || mapped[other] == 0);
    assert(other == me || mapped[me] == 0 || mapped[other] != 2)
  }
}

inline select_sender() {
  if
  :: !woken[me] && nempty(of_nodes[0 * N + me]) -> from = 0
  :: !woken[me] && nempty(of_nodes[1 * N + me]) -> from = 1
#if N > 2
  :: !woken[me] && nempty(of_nodes[2 * N + me]) -> from = 2
#endif
#if N > 3
  :: !woken[me] && nempty(of_nodes[3 * N + me]) -> from = 3
#endif
  fi
}

/* What a node is told by others. */
proctype node(byte me) {
  mtype kind, event;
  byte requester, others, value, from;
  bool to_read, unwritten, had_not_written, by_home;
end:
  do
  :: d_step { !woken[me] && nempty(of_home[me]) ->
       of_home[me]?kind, requester, others, to_read, unwritten, value;
       by_home = true; classify(); apply_node(); check_mappings(); by_home = false;
       kind = 0; event = 0; requester = 0; others = 0; value = 0; to_read = false; unwritten = false; had_not_written = false }
  :: atomic {
       select_sender();
       d_step { of_nodes[from * N + me]?kind, requester, others, to_read, unwritten, value;
       classify(); apply_node(); check_mappings();
       kind = 0; event = 0; requester = 0; others = 0; value = 0; to_read = false; unwritten = false; had_not_written = false; from = 0 } }
  od
}

/* What a node's processor does. That it cannot go on is noticed first, and told later. */
proctype guest(byte me) {
  mtype event;
  byte requester, others, value;
  bool to_read, unwritten, had_not_written, writes;
#ifdef ACCESSES
  byte left = ACCESSES;
#endif
  do
#ifdef ACCESSES
  :: left == 0 -> break
  :: left > 0 -> left--;
#else
  ::
#endif
     if
     :: writes = false
     :: writes = true
     fi;
     do
     :: d_step { mapped[me] >= 1 + writes ->
          assert(bytes[me] == newest);
          if
          :: writes -> newest = (newest + 1) % 3; bytes[me] = newest
          :: else
          fi;
          woken[me] = false }
progress:
        break
     :: mapped[me] < 1 + writes ->
        waits[me] = true;
        woken[me] = false;
        d_step {
          event = (writes -> ne_WriteFault : ne_ReadFault);
          apply_node(); check_mappings();
          event = 0; had_not_written = false
        };
        !waits[me]
     od
  od
}

#define HDO_None skip
#define HDO_FetchShared \
  find_supplier(); of_home[supplier]!m_FetchShared, asker, 0, false, false, 0; \
  in_service = in_service | bit_of(asker); sharers = sharers | bit_of(asker)
#define HDO_FetchToRead find_supplier(); move(supplier, m_FetchExclusive, asker, true)
#define HDO_FetchExclusive \
  migratory = migratory && home != hs_Shared; find_supplier(); move(supplier, m_FetchExclusive, asker, false)
#define HDO_GrantUpgrade \
  migratory = owner != asker && (sharers & ~bit_of(asker)) == bit_of(owner); move(asker, m_Upgrade, 0, false)
#define HDO_Invalidate \
  for (i : 0 .. N - 1) { if :: rest & bit_of(i) -> of_home[i]!m_Invalidate, asker, 0, false, false, 0 :: else fi }
#define HDO_Queue queue!asker, writes
#define HDO_ServeNext serve = true
#define HDO_TellLost assert(false)

#define HOME_RULE(from, on, next, first, second) \
  :: home == hs_##from && event == he_##on -> HDO_##first; HDO_##second; home = hs_##next

inline find_supplier() {
  supplier = ((sharers & ~in_service) & bit_of(HOME) -> HOME : owner)
}

inline move(to, how, for_whom, read_only) {
  rest = sharers & ~bit_of(to);
  of_home[to]!how, for_whom, rest, read_only, false, 0;
  in_service = bit_of(asker);
  sharers = in_service;
  owner = asker
}

inline apply_home() {
  if
#include "coherence/home_rules.inc"
  :: else -> assert(false) /* no such rule */
  fi
}

inline classify_request() {
  if
  :: writes -> event = (sharers & bit_of(asker) -> he_Upgrade : he_Write)
  :: else -> event = (home == hs_Exclusive && migratory -> he_MigrantRead : he_Read)
  fi
}

inline handle() {
  if
  :: kind == m_Done ->
     assert(in_service & bit_of(asker));
     in_service = in_service & ~bit_of(asker);
     migratory = migratory && !unwritten;
     event = (in_service == 0 -> he_Done : he_DoneOfSome)
  :: else ->
     writes = kind == m_Write;
     if
     :: len(queue) > 0 -> event = he_Behind
     :: else -> classify_request()
     fi
  fi;
  apply_home();
  do
  :: serve && len(queue) > 0 && home != hs_Moving ->
     queue?<asker, writes>;
     if
     :: home == hs_Reading && writes -> serve = false
     :: else -> queue?asker, writes; classify_request(); apply_home()
     fi
  :: else -> break
  od
}

proctype directory() {
  mtype kind, event;
  byte asker, supplier, rest, i;
  bool writes, unwritten, serve;
end:
  do
  :: atomic {
       if
       :: nempty(to_home[0]) -> asker = 0
       :: nempty(to_home[1]) -> asker = 1
#if N > 2
       :: nempty(to_home[2]) -> asker = 2
#endif
#if N > 3
       :: nempty(to_home[3]) -> asker = 3
#endif
       fi;
       d_step {
         to_home[asker]?kind, unwritten;
         handle();
         kind = 0; event = 0; asker = 0; supplier = 0; rest = 0; i = 0; writes = false; unwritten = false; serve = false
       }
     }
  od
}

init {
  byte each;
  atomic {
    for (each : 0 .. N - 1) {
      state[each] = ns_Invalid;
      bytes[each] = NONE
    }
    state[HOME] = ns_Untouched;
    bytes[HOME] = 0;
    for (each : 0 .. N - 1) {
      run node(each);
      run guest(each)
    }
    run directory()
  }
}
