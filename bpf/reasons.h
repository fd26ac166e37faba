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
	KG_XDP_NOT_IP,    /* passed */
	KG_XDP_NOT_OURS,  /* passed: not to an ingress address */
	KG_XDP_PASSED,    /* passed: to an ingress address */
	KG_XDP_ALLOWED,   /* passed: source in kg_deny, but excepted by kg_allow */
	KG_XDP_DENIED,    /* dropped: source in kg_deny */
	KG_XDP_MALFORMED, /* passed for the kernel to judge: headers cut short */
	/* kg_quic, per datagram */
	KG_QUIC_KNOWN,          /* of a connection that a worker has: there */
	KG_QUIC_NEW,            /* to a worker of the serving generation */
	KG_QUIC_NO_WORKER,      /* dropped: no worker has an open socket */
	KG_QUIC_WORKER_SKIPPED, /* a hung worker was passed over (not an end) */
	KG_REASONS,
};

#endif
