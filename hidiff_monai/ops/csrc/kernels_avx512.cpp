#include "vector_avx512.h"
// the loops below are written for the vector above
#include "tile_avx512.h"
// and for the tile
#include "entry.h"

namespace hidiff {
const Kernels avx512_kernels = entries("avx512");
}
