// The part of TensorFlow Lite Micro, ESP-IDF and Arduino that projects use, for a compiler of the host. Its interpreter
// computes nothing: it gives the answers in the file that ANSWERS names, and ends the program where it is used wrongly.
#ifndef TFLM_STUB_H
#define TFLM_STUB_H

#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
typedef enum {
  kTfLiteNoType = 0,
  kTfLiteFloat32 = 1,
  kTfLiteInt32 = 2,
  kTfLiteUInt8 = 3,
  kTfLiteInt64 = 4,
  kTfLiteBool = 6,
  kTfLiteInt16 = 7,
  kTfLiteInt8 = 9,
} TfLiteType;

struct TfLiteTensor {
  TfLiteType type;
  union {
    void* data;
    char* raw;
  } data;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  size_t bytes;
};

namespace stub {

struct Tensor {
  TfLiteType type;
  size_t bytes;
  float scale;
  int32_t zero_point;
};

#include "answers.h"  // kModel, kOps, kArena, kInputs, kOutputs, kInputValues: what the test knows of the file

inline void require(bool fact, const char* what) {
  if (fact) return;
  std::printf("STUB: %s\n", what);
  std::fflush(stdout);
  std::_Exit(99);
}

inline std::vector<char> answers() {
  std::vector<char> found;
  std::FILE* file = std::fopen(std::getenv("ANSWERS"), "rb");
  for (int byte; (byte = std::fgetc(file)) != EOF;) found.push_back(static_cast<char>(byte));
  std::fclose(file);
  return found;
}

}  // namespace stub

#define TFLITE_SCHEMA_VERSION (3)

// The methods of micro_mutable_op_resolver.h that register builtin ops.
#define STUB_METHODS(M) \
  M(Abs) M(Add) M(AddN) M(ArgMax) M(ArgMin) M(AssignVariable) M(AveragePool2D) M(BatchMatMul) M(BatchToSpaceNd) \
  M(BroadcastArgs) M(BroadcastTo) M(CallOnce) M(Cast) M(Ceil) M(Concatenation) M(Conv2D) M(Cos) M(CumSum) \
  M(DepthToSpace) M(DepthwiseConv2D) M(Dequantize) M(Div) M(DynamicUpdateSlice) M(Elu) M(EmbeddingLookup) \
  M(Equal) M(Exp) M(ExpandDims) M(Fill) M(Floor) M(FloorDiv) M(FloorMod) M(FullyConnected) M(Gather) M(GatherNd) \
  M(Greater) M(GreaterEqual) M(HardSwish) M(If) M(L2Normalization) M(L2Pool2D) M(LeakyRelu) M(Less) M(LessEqual) \
  M(Log) M(LogSoftmax) M(LogicalAnd) M(LogicalNot) M(LogicalOr) M(Logistic) M(MaxPool2D) M(Maximum) M(Mean) \
  M(Minimum) M(MirrorPad) M(Mul) M(Neg) M(NotEqual) M(Pack) M(Pad) M(PadV2) M(Prelu) M(Quantize) M(ReadVariable) \
  M(ReduceAll) M(ReduceMax) M(ReduceMin) M(Relu) M(Relu6) M(Reshape) M(ResizeBilinear) M(ResizeNearestNeighbor) \
  M(ReverseV2) M(Round) M(Rsqrt) M(SelectV2) M(Shape) M(Sin) M(Slice) M(Softmax) M(SpaceToBatchNd) \
  M(SpaceToDepth) M(Split) M(SplitV) M(Sqrt) M(Square) M(SquaredDifference) M(Squeeze) M(StridedSlice) M(Sub) \
  M(Sum) M(Svdf) M(Tanh) M(Transpose) M(TransposeConv) M(UnidirectionalSequenceLSTM) M(Unpack) M(VarHandle) \
  M(While) M(ZerosLike)

namespace tflite {

struct Model {
  int version() const { return 3; }
};

inline const Model* GetModel(const void* data) { return static_cast<const Model*>(data); }

inline void InitializeTarget() {}

class MicroOpResolver {
 public:
  std::set<std::string> names;
  size_t capacity = 0;

 protected:
  TfLiteStatus Add(const char* name) {
    stub::require(names.insert(name).second, "an op is registered twice");
    return names.size() <= capacity ? kTfLiteOk : kTfLiteError;
  }
};

template <unsigned int count>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  MicroMutableOpResolver() { capacity = count; }
#define METHOD(name) \
  TfLiteStatus Add##name() { return Add(#name); }
  STUB_METHODS(METHOD)
#undef METHOD
};

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, uint8_t* arena, size_t size) {
    stub::require(std::memcmp(model, stub::kModel, sizeof(stub::kModel)) == 0, "the model has other bytes");
    stub::require(size >= stub::kArena, "the arena is too small");
    stub::require(reinterpret_cast<uintptr_t>(arena) % 16 == 0, "the arena is not aligned");
    std::set<std::string> wanted(std::begin(stub::kOps), std::end(stub::kOps)), given;
    for (const std::string& name : resolver.names) {
      std::string lower;
      for (char letter : name) lower += static_cast<char>(std::tolower(letter));
      given.insert(lower);
    }
    stub::require(given == wanted && resolver.capacity == wanted.size(), "other ops are registered");
  }

  TfLiteStatus AllocateTensors() {
    for (const stub::Tensor& tensor : stub::kInputs) Hold(tensor, &inputs_);
    for (const stub::Tensor& tensor : stub::kOutputs) Hold(tensor, &outputs_);
    return kTfLiteOk;
  }

  TfLiteStatus Invoke() {
    for (TfLiteTensor& tensor : inputs_) {
      stub::require(std::memcmp(tensor.data.raw, stub::kInputValues + input_at_, tensor.bytes) == 0, "other inputs");
      input_at_ += tensor.bytes;
    }
    for (TfLiteTensor& tensor : outputs_) {
      std::memcpy(tensor.data.raw, answers_.data() + answer_at_, tensor.bytes);
      answer_at_ += tensor.bytes;
    }
    return kTfLiteOk;
  }

  ~MicroInterpreter() {
    stub::require(input_at_ == sizeof(stub::kInputValues) && answer_at_ == answers_.size(), "not all calls were made");
  }

  TfLiteTensor* input(size_t index) { return &inputs_.at(index); }
  TfLiteTensor* output(size_t index) { return &outputs_.at(index); }
  size_t arena_used_bytes() const { return stub::kArena; }

 private:
  static void Hold(const stub::Tensor& tensor, std::vector<TfLiteTensor>* among) {
    TfLiteTensor held = {tensor.type, {nullptr}, {tensor.scale, tensor.zero_point}, tensor.bytes};
    held.data.data = std::calloc(tensor.bytes, 1);
    among->push_back(held);
  }

  std::vector<TfLiteTensor> inputs_, outputs_;
  std::vector<char> answers_ = stub::answers();
  size_t input_at_ = 0, answer_at_ = 0;
};

}  // namespace tflite

// What an Arduino program finds without an #include.
#ifdef ARDUINO_STUB
struct SerialStub {
  void begin(long) {}
  explicit operator bool() const { return true; }
  void print(const char* text) { std::printf("%s", text); }
  void print(double number, int digits) { std::printf("%.*f", digits, number); }
};
static SerialStub Serial;
using std::floor;
#endif

#endif
