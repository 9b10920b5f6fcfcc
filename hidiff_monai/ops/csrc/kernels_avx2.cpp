#include "vector_avx2.h"
// the loops below are written for the vector above
#include "tile_avx2.h"
// and for the tile
#include "entry.h"

namespace hidiff {
const Kernels avx2_kernels = entries("avx2");
}
