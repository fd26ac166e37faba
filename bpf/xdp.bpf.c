/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kg_xdp: judges packets on uplinks before the kernel spends anything on them. It drops
 * those to our addresses that are from denied sources or that no honest host sends, sends
 * those to L4 listeners to a backend, and counts the rest. Whatever it does not understand
 * passes unchanged: the kernel is the judge of that.
 *
 * kg_xdp_guard does the same without L4, for interfaces where packets have unfinished
 * checksums (veth) and XDP cannot know: kg_ingress forwards there.
 */
#include "ingress.h"

static __always_inline int run_xdp(struct xdp_md *ctx, bool l4)
{
	struct headers headers = {};
	struct passage in, out;
	enum located located = LOCATED;
	struct hook h = {
		.data = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.in = &in,
		.out = &out,
		.xdp = ctx,
	};
	enum verdict verdict = PASSED;

	switch (glance(h.data, h.end, &headers)) {
	case GLANCE_NOT_OURS:
		count(KG_XDP_NOT_OURS);
		if (is_watched(KG_XDP_NOT_OURS))
			emit_from_xdp(ctx, KG_XDP_NOT_OURS, &headers);
		return XDP_PASS;
	case GLANCE_DENIED:
		count(KG_XDP_DENIED);
		if (is_watched(KG_XDP_DENIED))
			emit_from_xdp(ctx, KG_XDP_DENIED, &headers);
		return XDP_DROP;
	case GLANCE_OURS:
		break;
	default:
		located = locate_in_xdp(ctx, &headers);
	}
	begin_passage(&in, &out);
	if (l4)
		verdict = receive(&h, located, &headers, &in);
	if (verdict == PASSED)
		verdict = judge(&h, located, &headers, l4);
	if (l4 && leaves(&in, verdict))
		verdict = NODE_LEFT;
	if (l4 && goes_on(verdict))
		verdict = hand_over(&h, &headers, &in, &out, verdict);
	count(reason_of(false, verdict));
	if (is_watched(reason_of(false, verdict)))
		emit_from_xdp(ctx, reason_of(false, verdict), &headers);
	if (l4 && (goes_on(verdict) || verdict == COOKIE_SENT))
		return XDP_TX;
	if (drops(verdict))
		return XDP_DROP;
	/* Left as it is to kg_ingress, which takes it up from its outer headers. */
	if (!l4 || verdict == NODE_LEFT)
		return XDP_PASS;
	return decapsulate(&h, &headers, &in) ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int kg_xdp(struct xdp_md *ctx)
{
	return run_xdp(ctx, true);
}

SEC("xdp")
int kg_xdp_guard(struct xdp_md *ctx)
{
	return run_xdp(ctx, false);
}
