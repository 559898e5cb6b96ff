/* Bounds that scratch memory is laid out for, the same for every instruction set. */
#ifndef P2PINFER_SCRATCH_H
#define P2PINFER_SCRATCH_H

#define STREAMS 4       /* panels that one row goes through at once */
#define FEW 4           /* rows that every thread quantises for itself */
#define RUN 4           /* rows of one session in a piece of attention */
#define MOST_HEAD 256   /* size of a head */
#define MOST_SHARED 32  /* query heads of a key head */
#define MOST_TILE 6     /* query rows looked at together, of any instruction set */
#define HALF_OVERFLOW 0x477ff000 /* bits of 65520, which rounds to infinity in binary16 */

#endif
