// LibTorch's matrix products on the thread that calls them, inside a loop that shares its work over
// threads.
#pragma once

namespace cresco::tensor {

// LibTorch tells MKL to use all threads wherever it is called. Inside a parallel loop there are
// none to be had, but MKL cuts its sums as if there were: slower, and with other rounding than on
// one thread. While one of these lives, products of this thread are cut for one.
class OneThreadProducts {
 public:
  OneThreadProducts();
  ~OneThreadProducts();
  OneThreadProducts(const OneThreadProducts&) = delete;
  OneThreadProducts& operator=(const OneThreadProducts&) = delete;

 private:
  int before_ = 0;
};

}  // namespace cresco::tensor
