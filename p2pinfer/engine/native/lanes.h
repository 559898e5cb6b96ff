/* Sixteen virtual lanes: every instruction set computes the same operations in the same order.
 *
 * The kernel is written once, over `f32x16` and `i32x16`. Each lanes_*.h gives these two types and their operations on
 * one instruction set; an isa_*.c includes one of them and then the kernel. What decides about bits is here:
 *
 * - operations on lanes are IEEE 754 single precision, round to nearest even, each rounded once; `f_fma` is fused
 *   everywhere (fmaf in portable C), and nothing else is: the build says -ffp-contract=off;
 * - sums over lanes are one tree: lane l and l + 8, then l + 4, l + 2, l + 1;
 * - `i_dot` adds products of four int8 pairs to each lane, exactly, in int32.
 *
 *   f_zero f_set f_load f_store f_add f_sub f_mul f_div f_fma f_max    on f32x16
 *   f_load_half f_store_half     16 binary16 values; storing rounds to nearest even
 *   f_load_bytes                 16 int8 values
 *   f_sum f_most                 over lanes
 *   f_bits f_from_bits           the same bits as i32x16, and back
 *   f_round f_to_int             to nearest even; as f32x16, as i32x16
 *   f_first(v, n, rest)          lanes below n of v, above of rest
 *   i_set i_and i_max i_add i_most i_sum i_shift_left i_to_float
 *   i_store_bytes                lanes within [-128, 127] as 16 bytes
 *   i_dot(sums, w, x)            w: 64 bytes, four for each lane; x: 4 bytes, the same for all lanes
 *
 * BIASED says that `i_dot` reads weights as unsigned, 128 more than they are; the caller takes 128 x the sum of x off.
 * TILE_GROUPS x TILE_ROWS is how many sums of 16 outputs the registers hold in a matrix product; ATTENTION_ROWS, how
 * many query rows in attention, ATTENTION_VECTORS x 16 values of each at a time.
 */
#ifndef P2PINFER_LANES_H
#define P2PINFER_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

#endif
