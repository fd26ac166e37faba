/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SYN cookies before the stack: when SYNs to the proxies come faster than honest clients
 * send them, and the queue of the socket that would get one is full, it is answered here
 * and nothing is kept of it. The acknowledgement that an honest client sends finds the
 * stack, which makes a connection of it: the cookie is the kernel's own
 * (bpf_tcp_gen_syncookie), made for that very socket, and the kernel remembers to take
 * some for two minutes. So there is no state to agree on, no setting to change, and the
 * defence ends by itself with the flood.
 *
 * The cookie cannot encode window scaling, selective acknowledgement and ECN, so such connections
 * lack them: they would have to be hidden in timestamps, whose offset the kernel keeps to itself.
 * The stack's own cookies carry them; they cost ten times as much.
 */
#ifndef KG_COOKIE_H
#define KG_COOKIE_H

#include "clock.h"
#include "fabric.h"
#include "hook.h"
#include "verdict.h"

/* Words of the longest TCP header, and of the one that is sent: with one option, the
 * greatest segment (RFC 9293 section 3.7.1). */
#define KG_TCP_WORDS 15
#define KG_ANSWER_WORDS 6
#define KG_ANSWER_BYTES (KG_ANSWER_WORDS * 4)
#define KG_OPTION_MSS 0x02040000
#define KG_TCP_SYN_ACK 0x12
#define KG_TENTH_SECOND 100000000

/* What an attempt to answer came to. */
enum answered {
	UNANSWERED, /* as it was */
	ANSWERED,
	BROKEN, /* it has another length, and cannot go on */
};

/* A TCP header in words, network byte order; behind its end zeroes. */
struct tcp_words {
	__u32 word[KG_TCP_WORDS];
};

/* copy_syn copies the header of a SYN that is nothing else, and returns its length; 0 if
 * there is more in the packet: data (TCP Fast Open), or options of IP. */
static __always_inline __u32 copy_syn(struct tcp_words *to, void *data, void *end,
				      const struct headers *h)
{
	void *ip = data + (h->ip & 0xff);
	struct tcphdr *tcp = data + (h->transport & KG_MAX_TRANSPORT);
	__u32 length, total;

	if (ip + sizeof(struct ipv6hdr) > end || (void *)(tcp + 1) > end)
		return 0;
	length = tcp->doff * 4;
	if (h->flags & HEADERS_V6)
		total = bpf_ntohs(((struct ipv6hdr *)ip)->payload_len) + sizeof(struct ipv6hdr);
	else
		total = bpf_ntohs(((struct iphdr *)ip)->tot_len);
	if (length < sizeof(*tcp) || h->transport - h->ip + length != total)
		return 0;
	if (h->transport - h->ip !=
	    (h->flags & HEADERS_V6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)))
		return 0;
	for (__u32 i = 0; i < KG_TCP_WORDS; i++) {
		__u32 *from = (__u32 *)tcp + i;

		to->word[i] = 0;
		if (i * 4 >= length)
			continue;
		if ((void *)(from + 1) > end)
			return 0;
		to->word[i] = *from;
	}
	return length;
}

/* What changes in the sums that a SYN's checksum is made of when it is answered. */
struct cookie_sums {
	__u64 header; /* of TCP */
	__u64 pseudo; /* of the length that its pseudo header has */
};

/* answer_words writes the TCP header of the answer to a SYN of which word 0 (the ports), word 1
 * (the sequence number) and the checksum are given. */
static __always_inline void answer_words(__u32 *to, __u32 ports, __u32 sequence, __u32 check,
					 __u32 cookie, bool v6)
{
	to[0] = ports >> 16 | ports << 16;
	to[1] = bpf_htonl(cookie);
	to[2] = bpf_htonl(bpf_ntohl(sequence) + 1);
	to[3] = bpf_htonl((KG_ANSWER_WORDS << 12 | KG_TCP_SYN_ACK) << 16 | 0xffff);
	to[4] = check; /* and no urgent pointer */
	to[5] = bpf_htonl(KG_OPTION_MSS | (v6 ? kg_mss_v6 : kg_mss_v4));
}

/* turn_tcp changes the TCP header at an offset, which copy_syn has found whole, and notes what
 * that does to its sums. What is behind the answer's end is to be cut off. */
static __always_inline bool turn_tcp(void *data, void *end, const struct headers *h, __u32 cookie,
				     struct cookie_sums *sums)
{
	__u32 *tcp = data + (h->transport & KG_MAX_TRANSPORT);
	__u32 answer[KG_ANSWER_WORDS];
	__u64 before = 0, after = 0;
	__u32 length;

	if ((void *)(tcp + 5) > end)
		return false;
	length = ((struct tcphdr *)tcp)->doff * 4;
	answer_words(answer, tcp[0], tcp[1], tcp[4] & 0xffff, cookie, h->flags & HEADERS_V6);
	for (__u32 i = 0; i < KG_TCP_WORDS; i++) {
		if (i * 4 >= length || (void *)(tcp + i + 1) > end)
			break;
		before += (__u32) ~(i == 4 ? tcp[i] & 0xffff0000 : tcp[i]);
	}
	for (int i = 0; i < KG_ANSWER_WORDS; i++)
		after += i == 4 ? answer[i] & 0xffff0000 : answer[i];
	sums->header = before + after;
	sums->pseudo = difference(bpf_htonl(length), bpf_htonl(KG_ANSWER_BYTES));
	for (int i = 0; i < 5; i++)
		tcp[i] = answer[i];
	return true;
}

/* turn_rest changes everything else, once the packet has its new length. */
static __always_inline bool turn_rest(void *data, void *end, const struct headers *h)
{
	struct ethhdr *eth = data;
	void *ip = data + (h->ip & 0xff);
	__u32 *tcp = data + (h->transport & KG_MAX_TRANSPORT);
	__u16 *mac = data;
	bool v6 = h->flags & HEADERS_V6;

	if ((void *)(eth + 1) > end || (void *)(tcp + KG_ANSWER_WORDS) > end)
		return false;
	for (int i = 0; i < 3 && h->ip;
	     i++) { /* without an Ethernet header there is none to turn */
		__u16 to = mac[i];

		mac[i] = mac[i + 3];
		mac[i + 3] = to;
	}
	tcp[5] = bpf_htonl(KG_OPTION_MSS | (v6 ? kg_mss_v6 : kg_mss_v4));
	if (v6) {
		struct ipv6hdr *header = ip;
		__u32 *words = ip;

		if ((void *)(header + 1) > end)
			return false;
		words[0] = bpf_htonl(0x60000000); /* no traffic class, no flow label */
		header->payload_len = bpf_htons(KG_ANSWER_BYTES);
		header->hop_limit = 64;
		for (int i = 2; i < 6; i++) {
			__u32 source = words[i];

			words[i] = words[i + 4];
			words[i + 4] = source;
		}
	} else {
		struct iphdr *header = ip;
		__u32 *words = ip, source;
		__u64 sum = 0;

		if ((void *)(header + 1) > end)
			return false;
		header->tos = 0;
		header->tot_len = bpf_htons(sizeof(*header) + KG_ANSWER_BYTES);
		header->id = 0;
		header->frag_off = bpf_htons(0x4000); /* not to be fragmented */
		header->ttl = 64;
		source = words[3];
		words[3] = words[4];
		words[4] = source;
		header->check = 0;
		for (int i = 0; i < 5; i++)
			sum += words[i];
		header->check = ~fold(sum);
	}
	return true;
}

/* issue_cookie returns the cookie that the socket would send which the SYN is for, negative
 * if its queue is not full. Asking for the socket runs kg_lookup. What the kernel wants to
 * know of the connection lies in the packet as it wants it: the addresses, and behind them, as
 * there are no options, the ports. */
#define issue_cookie(ctx, h, syn, length)                                                         \
	({                                                                                        \
		void *ip_ = (void *)(long)(ctx)->data + ((h)->ip & 0xff);                         \
		void *end_ = (void *)(long)(ctx)->data_end;                                       \
		__u32 ip_size_ = sizeof(struct iphdr);                                            \
		struct bpf_sock *socket_ = NULL;                                                  \
		__s64 cookie_ = -1;                                                               \
		if ((h)->flags & HEADERS_V6) {                                                    \
			struct bpf_sock_tuple *tuple_ = ip_ + offsetof(struct ipv6hdr, saddr);    \
			if ((void *)tuple_ + sizeof(tuple_->ipv6) <= end_)                        \
				socket_ = bpf_skc_lookup_tcp((ctx), tuple_, sizeof(tuple_->ipv6), \
							     BPF_F_CURRENT_NETNS, 0);             \
			ip_size_ = sizeof(struct ipv6hdr);                                        \
		} else {                                                                          \
			struct bpf_sock_tuple *tuple_ = ip_ + offsetof(struct iphdr, saddr);      \
			if ((void *)tuple_ + sizeof(tuple_->ipv4) <= end_)                        \
				socket_ = bpf_skc_lookup_tcp((ctx), tuple_, sizeof(tuple_->ipv4), \
							     BPF_F_CURRENT_NETNS, 0);             \
		}                                                                                 \
		if (socket_) {                                                                    \
			if (socket_->state == TCP_LISTENING && ip_ + ip_size_ <= end_)            \
				cookie_ = bpf_tcp_gen_syncookie(socket_, ip_, ip_size_,           \
								(void *)(syn), (length));         \
			bpf_sk_release(socket_);                                                  \
		}                                                                                 \
		cookie_;                                                                          \
	})

/* Not static, so that each has a stack of its own and is verified once. They return the
 * cookie, or a negative number. */
__noinline __s64 cookie_in_xdp(struct xdp_md *ctx, const struct headers *h)
{
	struct tcp_words syn;
	__u32 length;

	if (!h)
		return -1;
	length = copy_syn(&syn, (void *)(long)ctx->data, (void *)(long)ctx->data_end, h);
	if (length < sizeof(struct tcphdr) || length > sizeof(syn))
		return -1;
	return issue_cookie(ctx, h, &syn, length);
}

__noinline __s64 cookie_in_skb(struct __sk_buff *ctx, const struct headers *h)
{
	struct tcp_words syn;
	__u32 length;

	if (!h)
		return -1;
	length = copy_syn(&syn, (void *)(long)ctx->data, (void *)(long)ctx->data_end, h);
	if (length < sizeof(struct tcphdr) || length > sizeof(syn))
		return -1;
	return issue_cookie(ctx, h, &syn, length);
}

__noinline enum answered answer_in_xdp(struct xdp_md *ctx, __u32 cookie, const struct headers *h)
{
	struct cookie_sums sums;
	struct tcphdr *tcp;
	int length;

	if (!h)
		return UNANSWERED;
	length = ctx->data_end - ctx->data;
	if (!turn_tcp((void *)(long)ctx->data, (void *)(long)ctx->data_end, h, cookie, &sums))
		return UNANSWERED;
	if (bpf_xdp_adjust_tail(ctx, h->transport + KG_ANSWER_BYTES - length) ||
	    !turn_rest((void *)(long)ctx->data, (void *)(long)ctx->data_end, h))
		return BROKEN;
	tcp = (void *)(long)ctx->data + (h->transport & KG_MAX_TRANSPORT);
	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return BROKEN;
	fix(&tcp->check, sums.header + sums.pseudo);
	return ANSWERED;
}

__noinline enum answered answer_in_skb(struct __sk_buff *ctx, __u32 cookie, const struct headers *h)
{
	struct cookie_sums sums;
	__u32 check;

	if (!h)
		return UNANSWERED;
	if (!turn_tcp((void *)(long)ctx->data, (void *)(long)ctx->data_end, h, cookie, &sums))
		return UNANSWERED;
	if (bpf_skb_change_tail(ctx, h->transport + KG_ANSWER_BYTES, 0) ||
	    !turn_rest((void *)(long)ctx->data, (void *)(long)ctx->data_end, h))
		return BROKEN;
	/* The checksum may be the device's to finish, of the pseudo header alone by now. */
	check = h->transport + offsetof(struct tcphdr, check);
	bpf_l4_csum_replace(ctx, check, 0, fold(sums.pseudo), BPF_F_PSEUDO_HDR);
	bpf_l4_csum_replace(ctx, check, 0, fold(sums.header), 0);
	return bpf_redirect(ctx->ifindex, 0) == 7 ? ANSWERED : BROKEN; /* TC_ACT_REDIRECT */
}

/* are_too_many counts a SYN, and reports whether they come faster than they should. */
static __always_inline bool are_too_many(void)
{
	__u32 index = 0;
	struct kg_syns *syns = bpf_map_lookup_elem(&kg_syns, &index);
	__u64 now = now_ns();

	if (!syns)
		return false;
	if (now - syns->since_ns >= KG_TENTH_SECOND) {
		syns->since_ns = now;
		syns->seen = 0;
	}
	if (syns->seen++ >= kg_syn_doubt)
		syns->doubted_ns = now + 10ULL * KG_TENTH_SECOND;
	return now < syns->doubted_ns;
}

/* challenge answers a SYN to the proxies if there is cause to. One that another node has
 * handed over is left to the stack: the answer would not find its way. */
static __always_inline enum verdict challenge(const struct hook *h, const struct packet *p,
					      const struct headers *headers)
{
	enum answered answered;
	__s64 cookie;

	if (!p->syn || p->ack || p->fragment || h->in->kind || !are_too_many())
		return PASSED;
	cookie = h->tc ? cookie_in_skb(h->skb, headers) : cookie_in_xdp(h->xdp, headers);
	if (cookie < 0)
		return PASSED;
	answered = h->tc ? answer_in_skb(h->skb, cookie, headers)
			 : answer_in_xdp(h->xdp, cookie, headers);
	if (answered == UNANSWERED)
		return PASSED;
	return answered == ANSWERED ? COOKIE_SENT : BAD_LENGTH;
}

#endif
