/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What happens to single packets, told to whoever watches (kerngatectl watch and top). While
 * nobody does it costs one read of memory; while somebody does, no more events than asked for
 * go out per second, CPU and reason, so that an attack does not make itself dearer.
 */
#ifndef KG_EVENTS_H
#define KG_EVENTS_H

#include "maps.h"
#include "packet.h"

_Static_assert(KG_REASONS <= 64 * KG_WATCH_WORDS, "kg_watch has a bit for each reason");

/* is_watched reports whether events of a reason are asked for. */
static __always_inline bool is_watched(enum kg_reason reason)
{
	__u32 key = 0;
	struct kg_watch *watch = bpf_map_lookup_elem(&kg_watch, &key);

	return watch && watch->until_ns &&
	       watch->reasons[reason >> 6 & (KG_WATCH_WORDS - 1)] >> (reason & 63) & 1;
}

/* budget_of returns what is left of a second's events of a reason, NULL if nothing is or
 * whoever asked is gone. */
static __always_inline struct kg_event_budget *budget_of(__u32 reason, __u64 now)
{
	__u32 key = 0;
	struct kg_watch *watch = bpf_map_lookup_elem(&kg_watch, &key);
	struct kg_event_budget *budget = bpf_map_lookup_elem(&kg_event_budgets, &reason);

	if (!watch || !budget || now >= watch->until_ns)
		return NULL;
	/* What another watcher left unsaid is not this one's to hear. */
	if (budget->since_ns < watch->since_ns)
		budget->skipped = 0;
	if (now - budget->since_ns >= 1000000000 || budget->since_ns < watch->since_ns) {
		budget->since_ns = now;
		budget->spent = 0;
	}
	if (budget->spent >= watch->per_second) {
		budget->skipped++;
		return NULL;
	}
	budget->spent++;
	return budget;
}

/* describe notes what the headers of a packet say, as far as they are there. Not by way of
 * struct packet, for which there is no room on the stack. */
static __always_inline void describe(struct kg_event *event, void *data, void *end,
				     const struct headers *h)
{
	void *at = data + (h->ip & 0xff);
	__be16 *ports = data + (h->transport & KG_MAX_TRANSPORT);

	if (!h->ip)
		return; /* not IP, or no whole header of it */
	if (h->flags & HEADERS_V6) {
		struct ipv6hdr *ip = at;

		if ((void *)(ip + 1) > end)
			return;
		address_of_v6(&event->source, &ip->saddr);
		address_of_v6(&event->destination, &ip->daddr);
	} else {
		struct iphdr *ip = at;

		if ((void *)(ip + 1) > end)
			return;
		address_of_v4(&event->source, ip->saddr);
		address_of_v4(&event->destination, ip->daddr);
	}
	event->protocol = h->protocol;
	if (h->flags & (HEADERS_LATER | HEADERS_CUT) ||
	    (h->protocol != IPPROTO_TCP && h->protocol != IPPROTO_UDP) || (void *)(ports + 2) > end)
		return;
	event->source_port = ports[0];
	event->destination_port = ports[1];
}

/* is_handed_on reports whether a packet was given outer headers, or was made another. */
static __always_inline bool is_handed_on(__u32 reason)
{
	return (reason >= KG_XDP_NODE_BACKEND && reason <= KG_XDP_NODE_TOO_BIG) ||
	       (reason >= KG_INGRESS_NODE_BACKEND && reason <= KG_INGRESS_NODE_TOO_BIG);
}

static __always_inline int emit(__u32 reason, const struct headers *h, void *data, void *end,
				__u32 ifindex, __u32 length)
{
	__u64 now = bpf_ktime_get_ns();
	struct kg_event_budget *budget = budget_of(reason, now);
	struct headers outer = {};
	struct kg_event *event;

	if (!h || !budget)
		return 0;
	event = bpf_ringbuf_reserve(&kg_events, sizeof(*event), 0);
	if (!event) {
		budget->skipped++;
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = now;
	event->reason = reason;
	event->ifindex = ifindex;
	event->length = length;
	event->skipped = budget->skipped;
	budget->skipped = 0;
	if (!is_handed_on(reason))
		describe(event, data, end, h);
	else if (locate_plain(data, end, &outer))
		describe(event, data, end, &outer);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* Not static, so that the verifier walks through them once. */
__noinline int emit_from_xdp(struct xdp_md *ctx, __u32 reason, const struct headers *h)
{
	return emit(reason, h, (void *)(long)ctx->data, (void *)(long)ctx->data_end,
		    ctx->ingress_ifindex, ctx->data_end - ctx->data);
}

__noinline int emit_from_skb(struct __sk_buff *ctx, __u32 reason, const struct headers *h)
{
	return emit(reason, h, (void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->ifindex,
		    ctx->len);
}

#endif
