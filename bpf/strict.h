/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What no honest host sends to an ingress address, and what is dropped for it while
 * kg_strict is set (flag --strict-packets): sources that no host has, and headers that
 * contradict themselves. What an RFC allows passes, however unusual it is.
 *
 * A packet that is shorter than its IP header says may only lie in more pieces than the
 * first, which is all that we see. It is left to the kernel, which sees the whole of it
 * and drops it if it is cut short.
 */
#ifndef KG_STRICT_H
#define KG_STRICT_H

#include "l4.h"

/* Bits of FIN, SYN, RST, ACK and URG in the 14th byte of a TCP header. PSH says nothing,
 * nor do ECE and CWR. */
#define KG_TCP_FLAGS 0x37

/* Bit n is set if flags n make sense together: SYN, SYN URG, SYN ACK, RST, RST ACK, and ACK
 * with or without FIN and URG. Those and no others connection tracking takes for valid too. */
#define KG_TCP_VALID                                                                               \
	(1ULL << 0x02 | 1ULL << 0x22 | 1ULL << 0x12 | 1ULL << 0x04 | 1ULL << 0x14 | 1ULL << 0x10 | \
	 1ULL << 0x11 | 1ULL << 0x30 | 1ULL << 0x31)

/* What kg_address_info.others holds for an address. */
static __always_inline __u32 bit_of(const struct kg_address *address)
{
	return 1U << (((const __u32 *)address)[3] * 0x9e3779b1 >> 27);
}

/*
 * is_nobodys reports whether no host may send from an address: this network, loopback,
 * multicast and broadcast (RFC 6890; of the reserved 240.0.0.0/4 Linux takes the rest, and
 * networks use it); unspecified, loopback, multicast, and anything else in ::/96 and
 * ::ffff:0:0/96, of which none is seen on a wire (RFC 4291 section 2.5.5).
 */
static __always_inline bool is_nobodys(const struct kg_address *source, bool v6)
{
	const __u32 *words = (const __u32 *)source;
	__u8 first = words[v6 ? 0 : 3];

	if (!v6)
		return first == 0 || first == 127 || (first >= 224 && first < 240) ||
		       words[3] == 0xffffffff;
	if (first == 0xff)
		return true;
	return !(words[0] | words[1]) && (!words[2] || words[2] == bpf_htonl(0xffff));
}

/*
 * is_spoofed reports whether a packet cannot have come from where it says: nobody's address,
 * or an ingress address. Those are local to this node, so none comes in from outside (LAND
 * attack). Loopback is not outside.
 */
static __always_inline bool is_spoofed(const struct hook *h, const struct packet *p,
				       const struct kg_address_info *address)
{
	const struct kg_address *source = &p->key.source;

	if (kg_uplink_loopback &&
	    (h->tc ? h->skb->ifindex : h->xdp->ingress_ifindex) == KG_LOOPBACK)
		return false;
	if (is_nobodys(source, p->v6))
		return true;
	return address->others & bit_of(source) && bpf_map_lookup_elem(&kg_addresses, source);
}

/* is_whole reports whether all bytes that the IP header promises are in the first piece of
 * a packet. total: that promise, up to 65575. */
static __always_inline bool is_whole(const struct packet *p, void *end, __u32 total)
{
	return end - p->ip >= total;
}

/* check_fragment judges where a fragment lies in its packet. room: its length without
 * headers. */
static __always_inline enum verdict check_fragment(const struct packet *p, const struct headers *h,
						   __u32 room)
{
	__u32 at = (h->fragment & KG_FRAGMENT_OFFSET) * 8;

	/* Nobody's links are so narrow; it hides flags or overwrites them: RFC 1858, RFC 3128. */
	if (p->key.protocol == IPPROTO_TCP && at == 8)
		return BAD_FRAGMENT;
	if (!room || at + room > 0xffff)
		return BAD_FRAGMENT;
	if (h->fragment & KG_FRAGMENT_MORE && room % 8)
		return BAD_FRAGMENT;
	return PASSED;
}

static __always_inline enum verdict check_tcp(const struct packet *p, __u32 room)
{
	if (p->length < sizeof(struct tcphdr) || p->length > room)
		return BAD_LENGTH;
	if (!p->key.source_port || !p->key.destination_port)
		return BAD_PORT;
	return KG_TCP_VALID >> (p->flags & KG_TCP_FLAGS) & 1 ? PASSED : BAD_FLAGS;
}

/* check_udp lets source port 0 pass: who wants no answer may say so (RFC 768). */
static __always_inline enum verdict check_udp(const struct packet *p, __u32 room)
{
	if (p->length < sizeof(struct udphdr) || (!p->fragment && p->length > room))
		return BAD_LENGTH;
	return p->key.destination_port ? PASSED : BAD_PORT;
}

/*
 * promised returns the length of a packet from its IP header on, as that says. Of segments
 * that the kernel has put together it may be too great to be said; it is 0 then.
 */
static __always_inline __u32 promised(const struct packet *p)
{
	__u32 length;

	if (!p->v6)
		return bpf_ntohs(((const struct iphdr *)p->ip)->tot_len);
	length = bpf_ntohs(((const struct ipv6hdr *)p->ip)->payload_len);
	if (!length && p->key.protocol == IPPROTO_TCP)
		return 0;
	return length + sizeof(struct ipv6hdr);
}

/* inspect judges the headers behind the addresses. read: whether they could be read. */
static __always_inline enum verdict inspect(const struct packet *p, void *end,
					    const struct headers *h, bool read)
{
	__u32 total = promised(p), headers = h->transport - h->ip, room;

	if (!read)
		return is_whole(p, end, total) ? CUT_SHORT : MALFORMED;
	if (!total && p->key.protocol == IPPROTO_TCP && !p->fragment)
		total = 0xffff;
	if (total < headers)
		return BAD_LENGTH;
	room = total - headers;
	if (p->fragment) {
		enum verdict fragment = check_fragment(p, h, room);

		if (fragment != PASSED || p->later)
			return fragment;
	}
	if (p->key.protocol == IPPROTO_TCP)
		return check_tcp(p, room);
	if (p->key.protocol == IPPROTO_UDP)
		return check_udp(p, room);
	return PASSED;
}

#endif
