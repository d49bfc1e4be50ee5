#include "cresco/kernels/panel_product.h"

namespace cresco::kernels {

namespace x86_64 {
void panel_product(const PanelProduct& product);
}
namespace avx2 {
void panel_product(const PanelProduct& product);
}
namespace avx512 {
void panel_product(const PanelProduct& product);
}

void panel_product(const PanelProduct& product, Isa isa) {
  void (*const variants[])(const PanelProduct&) = {x86_64::panel_product, avx2::panel_product,
                                                   avx512::panel_product};
  variants[static_cast<int>(isa)](product);
}

}  // namespace cresco::kernels
