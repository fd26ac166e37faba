/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why a program ended as it did: one value, one counter in kg_counters, one label
 * value "reason" of the metric kerngate_kernel_packets_total (lower case, without
 * KG_ and the program). The order is ABI: add at the end of the list, before KG_REASONS.
 */
#ifndef KG_REASONS_H
#define KG_REASONS_H

enum kg_reason {
	/* kg_lookup, per connection attempt */
	KG_LOOKUP_STEERED = 0,    /* given to a worker */
	KG_LOOKUP_NOT_OURS,       /* no listener: left to the kernel */
	KG_LOOKUP_NO_PROXY,       /* dropped: a listener, but no proxy generation serves */
	KG_LOOKUP_NO_WORKER,      /* dropped: the serving generation has no open socket */
	KG_LOOKUP_ASSIGN_FAILED,  /* dropped: bpf_sk_assign refused the socket */
	KG_LOOKUP_WORKER_SKIPPED, /* a hung worker was passed over (not an end) */
	/* kg_xdp, per packet */
	KG_XDP_NOT_IP, /* passed */
	KG_XDP_NOT_OURS, /* passed: not to an ingress address, or (kg_ingress) to another host's MAC */
	KG_XDP_PASSED,    /* passed: to an ingress address */
	KG_XDP_ALLOWED,   /* passed: source in kg_deny, but excepted by kg_allow */
	KG_XDP_DENIED,    /* dropped: source in kg_deny */
	KG_XDP_MALFORMED, /* passed for the kernel to judge: headers cut short, or in another piece */
	KG_XDP_L4_FORWARDED,      /* translated: a packet of a known flow */
	KG_XDP_L4_NEW,            /* translated: the first of a flow */
	KG_XDP_L4_ICMP,           /* translated: an ICMP error about a flow */
	KG_XDP_L4_FRAGMENT,       /* translated: a later fragment */
	KG_XDP_L4_FRAGMENT_LOST,  /* passed: a later fragment whose first has not been seen */
	KG_XDP_L4_NO_BACKEND,     /* passed, and refused by kg_lookup: no backend is ready */
	KG_XDP_L4_SOURCE_REFUSED, /* dropped: source outside of the service's ranges */
	KG_XDP_L4_NO_ROOM,        /* dropped: no place in the flow table */
	/* kg_ingress, per packet; the same in the same order as of kg_xdp */
	KG_INGRESS_NOT_IP,
	KG_INGRESS_NOT_OURS,
	KG_INGRESS_PASSED,
	KG_INGRESS_ALLOWED,
	KG_INGRESS_DENIED,
	KG_INGRESS_MALFORMED,
	KG_INGRESS_L4_FORWARDED,
	KG_INGRESS_L4_NEW,
	KG_INGRESS_L4_ICMP,
	KG_INGRESS_L4_FRAGMENT,
	KG_INGRESS_L4_FRAGMENT_LOST,
	KG_INGRESS_L4_NO_BACKEND,
	KG_INGRESS_L4_SOURCE_REFUSED,
	KG_INGRESS_L4_NO_ROOM,
	/* kg_egress, per packet */
	KG_EGRESS_NOT_OURS,    /* passed: of no L4 flow */
	KG_EGRESS_L4_REPLY,    /* translated: from a backend to its client */
	KG_EGRESS_L4_ICMP,     /* translated: an ICMP error about a packet to a backend */
	KG_EGRESS_L4_FRAGMENT, /* translated: a later fragment of a reply */
	/* kg_lookup again */
	KG_LOOKUP_L4, /* dropped: for an L4 listener, but not translated on its way in */
	/* kg_quic, per datagram */
	KG_QUIC_KNOWN,          /* of a connection that a worker has: there */
	KG_QUIC_NEW,            /* to a worker of the serving generation */
	KG_QUIC_NO_WORKER,      /* dropped: no worker has an open socket */
	KG_QUIC_WORKER_SKIPPED, /* a hung worker was passed over (not an end) */
	/* kg_xdp and kg_ingress, per packet between nodes */
	KG_XDP_NODE_BACKEND, /* handed to the node of its backend */
	KG_XDP_NODE_OWNER,   /* handed to the node that has its connection, or should get it */
	KG_XDP_NODE_SECOND,  /* handed to another node that may have its connection */
	KG_XDP_NODE_TOO_BIG, /* dropped: too big to be handed on, and its sender told so */
	KG_XDP_NODE_NO_WAY,  /* dropped: no route to the node, or not of its address families */
	KG_XDP_NODE_SENDER,  /* dropped: handed over by who is none of our nodes */
	KG_XDP_NODE_HEADER,  /* dropped: handed over with a header that we do not understand */
	KG_XDP_NODE_TARGET, /* dropped: handed over, but not to an ingress address or a pod of this node */
	KG_XDP_NODE_HOPS,    /* dropped: handed over too often */
	KG_XDP_NODE_LEFT,    /* passed as it is, for kg_ingress to judge or to hand on */
	KG_XDP_NODE_ARRIVED, /* handed over by another node, and taken (not an end) */
	/* the same in the same order */
	KG_INGRESS_NODE_BACKEND,
	KG_INGRESS_NODE_OWNER,
	KG_INGRESS_NODE_SECOND,
	KG_INGRESS_NODE_TOO_BIG,
	KG_INGRESS_NODE_NO_WAY,
	KG_INGRESS_NODE_SENDER,
	KG_INGRESS_NODE_HEADER,
	KG_INGRESS_NODE_TARGET,
	KG_INGRESS_NODE_HOPS,
	KG_INGRESS_NODE_LEFT,
	KG_INGRESS_NODE_ARRIVED,
	/* kg_xdp and kg_ingress, per packet that no honest host sends to an ingress address */
	KG_XDP_SPOOFED_SOURCE, /* dropped: from an address that no host has, or from an ingress address */
	KG_XDP_CUT_SHORT, /* dropped: no place for all headers in its length, or too many of them */
	KG_XDP_BAD_LENGTH,   /* dropped: lengths of headers contradict each other */
	KG_XDP_BAD_PORT,     /* dropped: port 0 */
	KG_XDP_BAD_FLAGS,    /* dropped: TCP flags that make no sense together */
	KG_XDP_BAD_FRAGMENT, /* dropped: a fragment that overlaps TCP's header, or is of no packet */
	/* and of sources that send too much; see rate.h */
	KG_XDP_RATE_PACKETS,     /* dropped: more packets than a source may send */
	KG_XDP_RATE_CONNECTIONS, /* dropped: more new connections than a source may open */
	/* the same in the same order */
	KG_INGRESS_SPOOFED_SOURCE,
	KG_INGRESS_CUT_SHORT,
	KG_INGRESS_BAD_LENGTH,
	KG_INGRESS_BAD_PORT,
	KG_INGRESS_BAD_FLAGS,
	KG_INGRESS_BAD_FRAGMENT,
	KG_INGRESS_RATE_PACKETS,
	KG_INGRESS_RATE_CONNECTIONS,
	KG_XDP_COOKIE_SENT,     /* a SYN, answered by a cookie: nothing is kept of it */
	KG_INGRESS_COOKIE_SENT, /* the same */
	/* kg_lookup again */
	KG_LOOKUP_CLOSED, /* dropped: to an ingress address, but to no listener */
	/* kg_xdp and kg_ingress again */
	KG_XDP_NO_PROXY,     /* dropped: a SYN to the proxies, none of which has an open socket */
	KG_INGRESS_NO_PROXY, /* the same */
	KG_REASONS,
};

#endif
