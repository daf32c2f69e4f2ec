/* SPDX-License-Identifier: GPL-2.0 */
/* Before the sources: km_draw() takes the draws of the test case, in turn, instead of random numbers. */
#define KM_CASE_DRAWS 16	/* as many as a descent can take: two at each step */

struct km_draws {
	__u32 taken;
	__u32 numbers[KM_CASE_DRAWS];
};

BPF_ARRAY(km_draws, struct km_draws, 1);

static __always_inline __u32 km_next_draw(void)
{
	int zero = 0;
	struct km_draws *draws = km_draws.lookup(&zero);
	__u32 at;

	if (!draws)
		return 0;
	at = draws->taken++;
	return draws->numbers[at % KM_CASE_DRAWS];
}

#define km_draw() km_next_draw()
