/* Answers one image with an exported model, by TensorFlow's C API alone.
 *
 * Usage: answer ARTIFACT IMAGE
 *
 * Prints the outputs of signature `serving_default`, a line each in the order of the artifact: name,
 * number of values, and the values, separated by tabs. Strings are printed as they are.
 *
 * Build, where TF is the folder of the package `tensorflow`:
 *   gcc -I$TF/include answer.c -o answer -L$TF -l:libtensorflow_cc.so.2 \
 *       -l:libtensorflow_framework.so.2 -Wl,-rpath,$TF
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

enum { MOST_OUTPUTS = 64 };

/* A part of a protobuf message. */
typedef struct {
  const uint8_t *at;
  size_t length;
} Bytes;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(const char *what, TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static Bytes read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail(path, "can't be read");
  fseek(file, 0, SEEK_END);
  size_t length = (size_t)ftell(file);
  rewind(file);
  uint8_t *content = malloc(length + 1);
  if (fread(content, 1, length, file) != length) fail(path, "can't be read");
  fclose(file);
  return (Bytes){content, length};
}

static uint64_t take_number(Bytes *message) {
  uint64_t value = 0;
  for (int shift = 0; message->length > 0 && shift < 64; shift += 7) {
    uint8_t byte = *message->at++;
    message->length--;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  fail("saved_model.pb", "damaged");
  return 0;
}

/* Reads a message's next field: returns its number, and its content if the field has a length. */
static uint64_t take_field(Bytes *message, Bytes *content) {
  uint64_t key = take_number(message);
  size_t length = 0;
  *content = (Bytes){message->at, 0};
  switch (key & 7) {
    case 0: take_number(message); break;
    case 1: length = 8; break;
    case 5: length = 4; break;
    case 2:
      length = take_number(message);
      *content = (Bytes){message->at, length};
      break;
    default: fail("saved_model.pb", "damaged");
  }
  if (length > message->length) fail("saved_model.pb", "damaged");
  message->at += length;
  message->length -= length;
  return key >> 3;
}

/* Finds a field. If `key` isn't NULL, the field is a map, and the value of this key is found. */
static int find(Bytes message, uint64_t field, const char *key, Bytes *found) {
  Bytes content, entry_key;
  while (message.length > 0) {
    if (take_field(&message, &content) != field) continue;
    if (key == NULL) {
      *found = content;
      return 1;
    }
    if (find(content, 1, NULL, &entry_key) && entry_key.length == strlen(key) &&
        memcmp(entry_key.at, key, entry_key.length) == 0)
      return find(content, 2, NULL, found);
  }
  return 0;
}

/* Finds the tensor of a graph by a TensorInfo, whose name is such as "Identity:0". */
static TF_Output find_tensor(TF_Graph *graph, Bytes tensor_info) {
  Bytes name;
  if (!find(tensor_info, 1, NULL, &name)) fail("saved_model.pb", "a tensor has no name");
  char *text = strndup((const char *)name.at, name.length);
  char *colon = strrchr(text, ':');
  if (colon == NULL) fail(text, "isn't the name of a tensor");
  *colon = '\0';
  TF_Output output = {TF_GraphOperationByName(graph, text), atoi(colon + 1)};
  if (output.oper == NULL) fail(text, "isn't in the graph");
  free(text);
  return output;
}

static TF_Tensor *batch_of_one(Bytes image) {
  int64_t shape[] = {1};
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, shape, 1, sizeof(TF_TString));
  TF_TString *string = TF_TensorData(tensor);
  TF_StringInit(string);
  TF_StringCopy(string, (const char *)image.at, image.length);
  return tensor;
}

static void print_value(const TF_Tensor *tensor, int64_t n) {
  const void *data = TF_TensorData(tensor);
  switch (TF_TensorType(tensor)) {
    case TF_FLOAT: printf("\t%.9g", ((const float *)data)[n]); break;
    case TF_INT32: printf("\t%" PRId32, ((const int32_t *)data)[n]); break;
    case TF_INT64: printf("\t%" PRId64, ((const int64_t *)data)[n]); break;
    case TF_UINT8:
    case TF_BOOL: printf("\t%u", ((const uint8_t *)data)[n]); break;
    case TF_STRING: {
      const TF_TString *string = (const TF_TString *)data + n;
      putchar('\t');
      fwrite(TF_StringGetDataPointer(string), 1, TF_StringGetSize(string), stdout);
      break;
    }
    default: fail("an answer", "has a type that this program doesn't print");
  }
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage", "answer ARTIFACT IMAGE");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_Buffer *meta_graph = TF_NewBuffer();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, meta_graph, status);
  check(argv[1], status);

  /* MetaGraphDef.signature_def is field 5, SignatureDef.inputs 1 and outputs 2. */
  Bytes signature, info, entry;
  Bytes meta = {meta_graph->data, meta_graph->length};
  if (!find(meta, 5, "serving_default", &signature)) fail(argv[1], "has no serving_default");
  if (!find(signature, 1, "image_bytes", &info)) fail(argv[1], "takes no image_bytes");
  TF_Output input = find_tensor(graph, info);
  TF_Tensor *image = batch_of_one(read_file(argv[2]));

  Bytes names[MOST_OUTPUTS];
  TF_Output outputs[MOST_OUTPUTS];
  TF_Tensor *answers[MOST_OUTPUTS];
  int count = 0;
  while (signature.length > 0 && count < MOST_OUTPUTS) {
    if (take_field(&signature, &entry) != 2) continue;
    find(entry, 1, NULL, &names[count]);
    find(entry, 2, NULL, &info);
    outputs[count++] = find_tensor(graph, info);
  }
  TF_SessionRun(session, NULL, &input, &image, 1, outputs, answers, count, NULL, 0, NULL, status);
  check(argv[2], status);

  for (int k = 0; k < count; k++) {
    int64_t values = TF_TensorElementCount(answers[k]);
    printf("%.*s\t%" PRId64, (int)names[k].length, (const char *)names[k].at, values);
    for (int64_t n = 0; n < values; n++) print_value(answers[k], n);
    putchar('\n');
  }
  return 0;
}
