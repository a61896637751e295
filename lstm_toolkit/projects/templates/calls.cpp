#include "calls.h"

#include <cmath>
#include <cstdint>

namespace {

@{arrays}
}  // namespace

const Edge kInputs[kInputCount] = {
@{input_rows}
};

const Edge kOutputs[kOutputCount] = {
@{output_rows}
};
