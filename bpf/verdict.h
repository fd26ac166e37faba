/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What kg_xdp and kg_ingress make of a packet: one set of verdicts for both, from which each
 * has its own counters.
 */
#ifndef KG_VERDICT_H
#define KG_VERDICT_H

#include "kernel.h"
#include "reasons.h"

/* In the order of the reasons; up to L4_NO_ROOM relative to KG_XDP_NOT_IP or KG_INGRESS_NOT_IP. */
enum verdict {
	NOT_IP = 0,
	NOT_OURS,
	PASSED,
	ALLOWED,
	DENIED,
	MALFORMED,
	L4_FORWARDED,
	L4_NEW,
	L4_ICMP,
	L4_FRAGMENT,
	L4_FRAGMENT_LOST,
	L4_NO_BACKEND,
	L4_SOURCE_REFUSED,
	L4_NO_ROOM,
	/* relative to KG_XDP_NODE_BACKEND or KG_INGRESS_NODE_BACKEND, from here on */
	NODE_BACKEND,
	NODE_OWNER,
	NODE_SECOND,
	NODE_TOO_BIG,
	NODE_NO_WAY,
	NODE_SENDER,
	NODE_HEADER,
	NODE_TARGET,
	NODE_HOPS,
	NODE_LEFT,
	NODE_ARRIVED,
	/* relative to KG_XDP_SPOOFED_SOURCE or KG_INGRESS_SPOOFED_SOURCE, from here on */
	SPOOFED_SOURCE,
	CUT_SHORT,
	BAD_LENGTH,
	BAD_PORT,
	BAD_FLAGS,
	BAD_FRAGMENT,
	RATE_PACKETS,
	RATE_CONNECTIONS,
	COOKIE_SENT,
	NO_PROXY,
};
_Static_assert(KG_XDP_NOT_IP + (int)L4_NO_ROOM == (int)KG_XDP_L4_NO_ROOM, "reasons of kg_xdp");
_Static_assert(KG_INGRESS_NOT_IP + (int)L4_NO_ROOM == (int)KG_INGRESS_L4_NO_ROOM,
	       "reasons of kg_ingress");
_Static_assert(NODE_ARRIVED - NODE_BACKEND == KG_XDP_NODE_ARRIVED - KG_XDP_NODE_BACKEND &&
		       NODE_ARRIVED - NODE_BACKEND ==
			       KG_INGRESS_NODE_ARRIVED - KG_INGRESS_NODE_BACKEND,
	       "reasons of packets between nodes");
_Static_assert(RATE_CONNECTIONS - SPOOFED_SOURCE ==
			       KG_XDP_RATE_CONNECTIONS - KG_XDP_SPOOFED_SOURCE &&
		       BAD_FRAGMENT - SPOOFED_SOURCE ==
			       KG_INGRESS_BAD_FRAGMENT - KG_INGRESS_SPOOFED_SOURCE,
	       "reasons of packets that are shed");

/* drops reports whether a packet with this verdict is dropped. */
static __always_inline bool drops(enum verdict verdict)
{
	return verdict == DENIED || verdict == L4_SOURCE_REFUSED || verdict == L4_NO_ROOM ||
	       (verdict >= NODE_NO_WAY && verdict <= NODE_HOPS) ||
	       (verdict >= SPOOFED_SOURCE && verdict <= RATE_CONNECTIONS) || verdict == NO_PROXY;
}

/* goes_on reports whether a packet with this verdict is to be handed to another node. */
static __always_inline bool goes_on(enum verdict verdict)
{
	return verdict == NODE_BACKEND || verdict == NODE_OWNER || verdict == NODE_SECOND;
}

/* reason_of returns the counter of a verdict. The reasons of kg_xdp (tc: of kg_ingress) are in
 * three runs, and two single ones. */
static __always_inline enum kg_reason reason_of(bool tc, enum verdict verdict)
{
	if (verdict < NODE_BACKEND)
		return (tc ? KG_INGRESS_NOT_IP : KG_XDP_NOT_IP) + verdict;
	if (verdict < SPOOFED_SOURCE)
		return (tc ? KG_INGRESS_NODE_BACKEND : KG_XDP_NODE_BACKEND) +
		       (verdict - NODE_BACKEND);
	if (verdict == NO_PROXY)
		return tc ? KG_INGRESS_NO_PROXY : KG_XDP_NO_PROXY;
	if (verdict == COOKIE_SENT)
		return tc ? KG_INGRESS_COOKIE_SENT : KG_XDP_COOKIE_SENT;
	return (tc ? KG_INGRESS_SPOOFED_SOURCE : KG_XDP_SPOOFED_SOURCE) +
	       (verdict - SPOOFED_SOURCE);
}

#endif
