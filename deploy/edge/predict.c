/* Predict rows with the bundle of `make edge`, by the C API of ONNX Runtime.
 *
 *   cc predict.c -o predict -I<folder of onnxruntime_c_api.h> -L<folder of libonnxruntime.so> -lonnxruntime
 *   ./predict model.onnx < rows.csv
 *
 * A line is a row: the `numbers` of contract.json in their order, then the `codes`, with commas; empty where missing.
 * A line of the output holds its probabilities in the order of `classes`, or the predicted number. */
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const OrtApi *ort;

static void check(OrtStatus *status) {
  if (!status) return;
  fprintf(stderr, "error: %s\n", ort->GetErrorMessage(status));
  exit(1);
}

/* Numbers in each row of an input; 0 where the model has no such input. */
static size_t width(OrtSession *session, size_t input) {
  OrtTypeInfo *type;
  const OrtTensorTypeAndShapeInfo *shape;
  int64_t sizes[2];
  check(ort->SessionGetInputTypeInfo(session, input, &type));
  check(ort->CastTypeInfoToTensorInfo(type, &shape));
  check(ort->GetDimensions(shape, sizes, 2));
  ort->ReleaseTypeInfo(type);
  return (size_t)sizes[1];
}

int main(int count, char **arguments) {
  const OrtApiBase *base = OrtGetApiBase();
  OrtEnv *environment;
  OrtSessionOptions *options;
  OrtSession *session;
  OrtMemoryInfo *memory;
  OrtAllocator *allocator;
  size_t inputs, widths[2] = {0, 0};
  char *names[2], *output, line[1 << 16];

  if (count != 2) return fprintf(stderr, "usage: %s model.onnx < rows.csv\n", arguments[0]), 2;
  ort = base->GetApi(ORT_API_VERSION);
  if (!ort) return fprintf(stderr, "error: ONNX Runtime %s is older than its header\n", base->GetVersionString()), 1;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "model", &environment));
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, 1));
  check(ort->CreateSession(environment, arguments[1], options, &session));
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  check(ort->GetAllocatorWithDefaultOptions(&allocator));
  check(ort->SessionGetInputCount(session, &inputs));
  for (size_t n = 0; n < inputs; n++) {
    check(ort->SessionGetInputName(session, n, allocator, &names[n]));
    widths[strcmp(names[n], "codes") == 0] = width(session, n);
  }
  check(ort->SessionGetOutputName(session, 0, allocator, &output));
  double *numbers = calloc(widths[0] + 1, sizeof *numbers);
  int64_t *codes = calloc(widths[1] + 1, sizeof *codes);

  for (size_t row = 1; fgets(line, sizeof line, stdin); row++) {
    char *rest = line, *cell, *end;
    size_t cells = 0, wanted = widths[0] + widths[1];
    line[strcspn(line, "\r\n")] = '\0';
    for (; (cell = end = strsep(&rest, ",")); cells++) {
      if (cells < widths[0]) numbers[cells] = *cell ? strtod(cell, &end) : NAN;
      else if (cells < wanted) codes[cells - widths[0]] = strtoll(cell, &end, 10);
      if (cells < wanted && *end) return fprintf(stderr, "error: row %zu: '%s' is no number\n", row, cell), 1;
    }
    if (cells != wanted) return fprintf(stderr, "error: row %zu has %zu cells, not %zu\n", row, cells, wanted), 1;

    OrtValue *given[2], *found = NULL;
    for (size_t n = 0; n < inputs; n++) {
      int coded = strcmp(names[n], "codes") == 0;
      int64_t shape[2] = {1, (int64_t)widths[coded]};
      check(ort->CreateTensorWithDataAsOrtValue(
          memory, coded ? (void *)codes : (void *)numbers, 8 * widths[coded], shape, 2,
          coded ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, &given[n]));
    }
    check(ort->Run(session, NULL, (const char *const *)names, (const OrtValue *const *)given, inputs,
                   (const char *const *)&output, 1, &found));
    OrtTensorTypeAndShapeInfo *made;
    ONNXTensorElementDataType type;
    size_t size;
    void *values;
    check(ort->GetTensorTypeAndShape(found, &made));
    check(ort->GetTensorElementType(made, &type));
    check(ort->GetTensorShapeElementCount(made, &size));
    check(ort->GetTensorMutableData(found, &values));
    for (size_t n = 0; n < size; n++) {
      int single = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
      printf("%s%.17g", n ? "," : "", single ? ((float *)values)[n] : ((double *)values)[n]);
    }
    puts("");
    for (size_t n = 0; n < inputs; n++) ort->ReleaseValue(given[n]);
    ort->ReleaseTensorTypeAndShapeInfo(made);
    ort->ReleaseValue(found);
  }
  return 0;
}
