"""How the kernel reads a request, in Python, step for step: the oracle of its tests.

Executes records as bytes and nothing else. What they mean: docs/decisions/0008-request-matching.md. For one request,
in this order, and the first that hands over ends it:

1. *Routing unit* (requests). Its cell, sealed and with the action ROUTES, and the ROUTES that it names: else BROKEN.
2. *Head* (head). What the head automaton's events say, byte by byte: fields, marks, length. A value's trailing blanks
   are cut before it is recorded. At KM_MAX_HEAD_BYTES: HEAD_SIZE, also when no more bytes have come; else INCOMPLETE.
3. *Marks* (requests). A mark that the relay normalises: NORMALIZE.
4. *Authority* (authority). Host is checked (HOST); a trailing dot, or a port of more than five digits, is the relay's
   where it would be cut (NORMALIZE); its port is cut. IGNORE_PORT leaves out what follows the last colon of what is
   then left. The domain is found, or the wildcard: else NO_VIRTUAL_HOST.
5. *Decisions* (decision). KM_MAX_DECISION_DEPTH records at most. All tests of a decision are run, in order, whatever
   the first come to. More tests than fit, a split without a test: BROKEN.
6. *Chance* (decision). One draw, when the first route comes that does not take all: draw * 1000000 >> 32.
7. *Action* (requests). CLUSTER is it; HANDOVER is the reason in `target`, or BROKEN if that is none; NODE is chosen
   from by steps 3 and 4 of kmesh.compiler.reference and must come to a CLUSTER: else BROKEN.
"""
