// Rows of an image in any layout into a strip: a plane for each channel, or for each pair of them.
#pragma once

#include "cpu/masked_conv2d_parts.h"
#include "cpu/product.h"
#include "cpu/turn_words.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int64_t kTogether = 8;  // channels whose pixels lie side by side are read together

// So many of them into planes.
template <class T, class Element>
void fill_together(const T* in, int64_t pixel, int64_t width, Element* out, int64_t plane) {
  if constexpr (sizeof(T) > 4) {
    for (int64_t x = 0; x < width; ++x)
      for (int64_t k = 0; k < kTogether; ++k) out[k * plane + x] = element_of<Element>(in[x * pixel + k]);
  } else {
    for (int64_t k = 0; k < kTogether; k += kWordChannels<T>)
      split_channels(in + k, pixel, width, out + k * plane, plane);
  }
}

// Rows [row - above, row + rows + below) of image n of `source`.
template <class T>
struct ImageRows {
  const T* image;
  int64_t channel, line, pixel;  // strides
  int64_t first, count, height, width;

  ImageRows(const Tensor4& source, const Plan& plan, const StripLayout& strip, int64_t n, int64_t row, int64_t height,
            int64_t width)
      : image(static_cast<const T*>(source.data) + n * source.strides[0]),
        channel(source.strides[1]),
        line(source.strides[2]),
        pixel(source.strides[3]),
        first(row - plan.above),
        count(plan.above + strip.rows + plan.below),
        height(height),
        width(width) {}
  // Row r of channel c, or nullptr outside the image.
  const T* at(int64_t r, int64_t c) const {
    const int64_t y = first + r;
    return y >= 0 && y < height ? image + c * channel + y * line : nullptr;
  }
};

// Some channels into the planes, the first channel's first; zeros outside the image and in the gaps.
template <class T, class Element>
void fill_channels(const Tensor4& source, const Plan& plan, const StripLayout& strip, int64_t n, int64_t row,
                   int64_t height, int64_t width, int64_t begin, int64_t end, Element* planes) {
  const ImageRows<T> rows(source, plan, strip, n, row, height, width);
  const int64_t gap = strip.pitch - width;
  for (int64_t c0 = begin; c0 < end; c0 += kTogether) {
    const int64_t c1 = std::min(c0 + kTogether, end);
    const bool together = rows.pixel != 1 && rows.channel == 1 && c1 - c0 == kTogether;
    Element* base = planes + (c0 - begin) * strip.plane;
    for (int64_t c = c0; c < c1; ++c) std::fill_n(planes + (c - begin) * strip.plane, strip.lead, Element{});
    for (int64_t r = 0; r < rows.count; ++r) {
      Element* out = base + strip.lead + r * strip.pitch;
      const T* in = rows.at(r, c0);
      if (in && together) fill_together(in, rows.pixel, width, out, strip.plane);
      for (int64_t k = 0; k < c1 - c0; ++k, out += strip.plane) {
        if (!in) {
          std::fill_n(out, strip.pitch, Element{});
          continue;
        }
        const T* line = in + k * rows.channel;
        if (rows.pixel == 1) {
          element_run(line, out, width);
        } else if (!together) {
          for (int64_t x = 0; x < width; ++x) out[x] = element_of<Element>(line[x * rows.pixel]);
        }
        std::fill_n(out + width, gap, Element{});
      }
    }
  }
}

// All channels, two to a plane, each group's by themselves: where it has an odd number, zeros beside the last.
template <class Product>
void fill_pairs(const Tensor4& source, const Plan& plan, const StripLayout& strip, int64_t n, int64_t row,
                int64_t height, int64_t width, typename Product::Element* planes) {
  const ImageRows<BFloat16> rows(source, plan, strip, n, row, height, width);
  const int64_t per_group = plan.sources / plan.groups, gap = strip.pitch - width;
  for (int64_t c = 0, left; c < plan.sources;) {
    left = per_group - c % per_group;
    const bool together = rows.pixel != 1 && rows.channel == 1 && left >= 8;
    const int64_t count = together ? 4 : 1;  // planes
    for (int64_t k = 0; k < count; ++k) std::fill_n(planes + k * strip.plane, strip.lead, 0);
    auto* out = planes + strip.lead;
    for (int64_t r = 0; r < rows.count; ++r, out += strip.pitch) {
      const BFloat16* in = rows.at(r, c);
      if (!in) {
        for (int64_t k = 0; k < count; ++k) std::fill_n(out + k * strip.plane, strip.pitch, 0);
        continue;
      }
      const BFloat16* other = in + rows.channel;
      if (together) {
        split_words(in, 2 * rows.pixel, width, out, 4 * strip.plane);
      } else if (left == 1) {
        for (int64_t x = 0; x < width; ++x) out[x] = Product::of(in[x * rows.pixel], {});
      } else if (rows.pixel == 1) {
        for (int64_t x = 0; x < width; ++x) out[x] = Product::of(in[x], other[x]);
      } else {
        for (int64_t x = 0; x < width; ++x) out[x] = Product::of(in[x * rows.pixel], other[x * rows.pixel]);
      }
      for (int64_t k = 0; k < count; ++k) std::fill_n(out + k * strip.plane + width, gap, 0);
    }
    planes += count * strip.plane;
    c += std::min(2 * count, left);
  }
}

template <class T, class Product>
void fill_strip(const Tensor4& source, const Plan& plan, const StripLayout& strip, int64_t n, int64_t row,
                int64_t height, int64_t width, typename Product::Element* planes) {
  if constexpr (Product::kTerms == 1) {
    fill_channels<T>(source, plan, strip, n, row, height, width, 0, plan.sources, planes);
  } else {
    fill_pairs<Product>(source, plan, strip, n, row, height, width, planes);
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
