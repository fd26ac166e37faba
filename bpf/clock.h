/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What time it is, for ages of seconds and more. */
#ifndef KG_CLOCK_H
#define KG_CLOCK_H

#include "maps.h"

/*
 * now_ns returns CLOCK_MONOTONIC as it was at the last tick of the kernel's timer, so up to
 * 10 ms ago. The kernel is asked once a tick and CPU: a call is a tenth of what forwarding a
 * packet takes, while bpf_jiffies64 is a load.
 *
 * Nothing interrupts a program for another one on its CPU: the two words belong together.
 */
static __always_inline __u64 now_ns(void)
{
	__u32 index = 0;
	struct kg_clock *clock = bpf_map_lookup_elem(&kg_clock, &index);
	__u64 tick = bpf_jiffies64();

	if (!clock)
		return bpf_ktime_get_ns();
	if (clock->tick != tick) {
		clock->ns = bpf_ktime_get_ns();
		clock->tick = tick;
	}
	return clock->ns;
}

#endif
