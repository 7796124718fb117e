"""The messages of gRPC, built at run time from shortened .proto definitions.

Generated code would fit only some versions of protobuf, and would collide with the classes of
tensorflow-serving-api in one process. Messages of other packages, such as TensorProto, are declared
as bytes, which have the same wire format.

Sources: TF Serving 2.20, `tensorflow_serving/apis` and `config`; Open Inference Protocol,
`inference.proto`; gRPC, `health.proto`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TF_SERVING = """
Int64Value { int64 value = 1 }
ModelSpec {
  string name = 1; Int64Value version = 2; string signature_name = 3; string version_label = 4
}
PredictRequest {
  ModelSpec model_spec = 1; map<string, bytes> inputs = 2; repeated string output_filter = 3
}
PredictResponse { map<string, bytes> outputs = 1; ModelSpec model_spec = 2 }
Any { string type_url = 1; bytes value = 2 }
SignatureDefMap { map<string, bytes> signature_def = 1 }
GetModelMetadataRequest { ModelSpec model_spec = 1; repeated string metadata_field = 2 }
GetModelMetadataResponse { ModelSpec model_spec = 1; map<string, Any> metadata = 2 }
GetModelStatusRequest { ModelSpec model_spec = 1 }
StatusProto { int32 error_code = 1; string error_message = 2 }
ModelVersionStatus { int64 version = 1; int32 state = 2; StatusProto status = 3 }
GetModelStatusResponse { repeated ModelVersionStatus model_version_status = 1 }
ClassificationRequest { ModelSpec model_spec = 1 }
ClassificationResponse { ModelSpec model_spec = 2 }
InferenceTask { ModelSpec model_spec = 1; string method_name = 2 }
MultiInferenceRequest { repeated InferenceTask tasks = 1 }
MultiInferenceResponse { repeated bytes results = 1 }
Latest { uint32 num_versions = 1 }
Every { }
Specific { repeated int64 versions = 1 }
ServableVersionPolicy { Latest latest = 100; Every all = 101; Specific specific = 102 }
ModelConfig {
  string name = 1; string base_path = 2; ServableVersionPolicy model_version_policy = 7;
  map<string, int64> version_labels = 8
}
ModelConfigList { repeated ModelConfig config = 1 }
ModelServerConfig { ModelConfigList model_config_list = 1; bytes custom_model_config = 2 }
ReloadConfigRequest { ModelServerConfig config = 1 }
ReloadConfigResponse { StatusProto status = 1 }
PredictLog { PredictRequest request = 1 }
PredictionLog { PredictLog predict_log = 6 }
"""
INFERENCE = """
Empty { }
ServerLiveResponse { bool live = 1 }
ServerReadyResponse { bool ready = 1 }
ModelRequest { string name = 1; string version = 2 }
ModelReadyResponse { bool ready = 1 }
ServerMetadataResponse { string name = 1; string version = 2; repeated string extensions = 3 }
TensorMetadata { string name = 1; string datatype = 2; repeated int64 shape = 3 }
ModelMetadataResponse {
  string name = 1; repeated string versions = 2; string platform = 3;
  repeated TensorMetadata inputs = 4; repeated TensorMetadata outputs = 5
}
InferParameter { bool bool_param = 1; int64 int64_param = 2; string string_param = 3 }
InferTensorContents {
  repeated bool bool_contents = 1; repeated int32 int_contents = 2;
  repeated int64 int64_contents = 3; repeated uint32 uint_contents = 4;
  repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6;
  repeated double fp64_contents = 7; repeated bytes bytes_contents = 8
}
InferTensor {
  string name = 1; string datatype = 2; repeated int64 shape = 3;
  map<string, InferParameter> parameters = 4; InferTensorContents contents = 5
}
InferRequestedOutputTensor { string name = 1 }
ModelInferRequest {
  string model_name = 1; string model_version = 2; string id = 3;
  map<string, InferParameter> parameters = 4; repeated InferTensor inputs = 5;
  repeated InferRequestedOutputTensor outputs = 6; repeated bytes raw_input_contents = 7
}
ModelInferResponse {
  string model_name = 1; string model_version = 2; string id = 3;
  map<string, InferParameter> parameters = 4; repeated InferTensor outputs = 5;
  repeated bytes raw_output_contents = 6
}
"""
HEALTH = """
HealthCheckRequest { string service = 1 }
HealthCheckResponse { int32 status = 1 }
"""
_MESSAGE = re.compile(r"(?P<name>\w+) \{(?P<fields>[^}]*)\}")
_FIELD = re.compile(r"(?:(repeated) )?(map<string, (\w+)>|\w+) (\w+) = (\d+)")
_KINDS = descriptor_pb2.FieldDescriptorProto


class Messages:
    """The message classes of one schema, as attributes."""

    def __init__(self, schema: str, package: str) -> None:
        """Create the message classes of a schema in the short notation above."""
        file = descriptor_pb2.FileDescriptorProto(
            name=f"cvpipe/{package}.proto", package=package, syntax="proto3"
        )
        for match in _MESSAGE.finditer(schema):
            message = file.message_type.add(name=match["name"])
            for fields in _FIELD.finditer(match["fields"]):
                _add_field(message, package, *fields.groups())
        # A separate pool, because the names may already be registered in the default one.
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._classes = {
            message.name: message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"{package}.{message.name}")
            )
            for message in file.message_type
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._classes[name]


@cache
def tf_serving() -> Messages:
    """Return the messages of TF Serving."""
    return Messages(TF_SERVING, "tensorflow.serving")


@cache
def inference() -> Messages:
    """Return the messages of the Open Inference Protocol."""
    return Messages(INFERENCE, "inference")


@cache
def health() -> Messages:
    """Return the messages of gRPC's health service."""
    return Messages(HEALTH, "grpc.health.v1")


def _add_field(
    message: Any, package: str, repeated: str | None, kind: str, value: str, name: str, number: str
) -> None:
    field = message.field.add(name=name, number=int(number))
    field.label = _KINDS.LABEL_REPEATED if repeated or value else _KINDS.LABEL_OPTIONAL
    if value:
        # A map is a repeated message with the fields key and value.
        entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        nested = message.nested_type.add(name=entry)
        nested.options.map_entry = True
        _add_field(nested, package, None, "string", "", "key", "1")
        _add_field(nested, package, None, value, "", "value", "2")
        field.type, field.type_name = _KINDS.TYPE_MESSAGE, f".{package}.{message.name}.{entry}"
    elif kind[0].islower():
        field.type = getattr(_KINDS, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = _KINDS.TYPE_MESSAGE, f".{package}.{kind}"
