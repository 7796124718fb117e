"""Guards the conversion between JSON of TF Serving's REST API and tensors, without a server."""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.serving import rest
from cvpipe.serving.errors import RequestError, to_request_error

IMAGE_BYTES = {"image_bytes": tf.TensorSpec([None], tf.string)}
IMAGE = {"image": tf.TensorSpec([None, 2, 2, 1], tf.float32)}
PAIR = {"left": tf.TensorSpec([None, 2], tf.float32), "right": tf.TensorSpec([None], tf.int32)}
JPEG_LIKE = b"\xff\xd8\xff\x00\x00"


def tensors(body, specs):
    text = body if isinstance(body, str) else json.dumps(body)
    return rest.to_tensors(rest.parse_request(text.encode()), specs)


def refusal(body, specs):
    with pytest.raises(RequestError) as caught:
        tensors(body, specs)
    assert caught.value.status == 400
    return str(caught.value)


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


def one(dtype, value):
    return tensors({"inputs": value}, {"x": tf.TensorSpec(None, dtype)})["x"]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [b64(JPEG_LIKE), b64(b"")]},
        {"instances": [{"image_bytes": b64(JPEG_LIKE)}, {"image_bytes": b64(b"")}]},
        {"inputs": [b64(JPEG_LIKE), b64(b"")]},
        {"inputs": {"image_bytes": [b64(JPEG_LIKE), b64(b"")]}},
    ],
)
def test_every_way_to_write_binary_values_gives_the_same_tensor(body):
    assert tensors(body, IMAGE_BYTES)["image_bytes"].numpy().tolist() == [JPEG_LIKE, b""]


def test_base64_may_be_wrapped_and_unpadded():
    assert one(tf.string, {"b64": "/9j\n/AAA"}).numpy() == JPEG_LIKE


def test_a_plain_string_is_utf8_text():
    assert one(tf.string, ["Käse", "\x00"]).numpy().tolist() == ["Käse".encode(), b"\x00"]


def test_row_and_column_form_of_several_inputs_give_the_same_tensors():
    rows = tensors(
        {"instances": [{"left": [1, 2.5], "right": 3}, {"right": 4, "left": [5, 6]}]}, PAIR
    )
    columns = tensors({"inputs": {"left": [[1, 2.5], [5, 6]], "right": [3, 4]}}, PAIR)
    for name, spec in PAIR.items():
        assert rows[name].dtype == columns[name].dtype == spec.dtype
        np.testing.assert_array_equal(rows[name], columns[name])


def test_column_form_needs_no_batch_dimension():
    assert one(tf.float32, 1.5).shape == []
    assert one(tf.float32, [[], []]).shape == [2, 0]
    assert one(tf.string, []).shape == [0]


def test_nan_and_infinity_tokens_are_numbers():
    tensor = tensors('{"inputs": [NaN, Infinity, -Infinity]}', {"x": tf.TensorSpec([None])})["x"]
    np.testing.assert_array_equal(tensor, [np.nan, np.inf, -np.inf])


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (tf.bool, [True, False]),
        (tf.uint8, [0, 255]),
        (tf.int32, [-(2**31), 2**31 - 1]),
        (tf.int64, [-(2**63), 2**63 - 1]),
        (tf.uint64, [0, 2**64 - 1]),
        (tf.float16, [0.1, 65504.0]),
        (tf.bfloat16, [0.1, -3.0e38]),
        (tf.float32, [0.1, -3.4e38]),
        (tf.float64, [0.1, 1e308]),
        (tf.string, ["", "é"]),
    ],
)
def test_what_is_written_reads_back_to_the_bit(dtype, values):
    tensor = tf.constant([[value] for value in values], dtype)
    body = json.dumps({"inputs": rest.to_answer({"y": tensor}, row_form=False)["outputs"]})
    again = tensors(body, {"x": tf.TensorSpec([None, 1], dtype)})["x"]
    assert again.dtype == dtype
    assert again.numpy().tolist() == tensor.numpy().tolist()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (tf.float32, ["1.5"]),
        (tf.float32, [True, 1.0]),
        (tf.float32, [None]),
        (tf.float32, [b64(b"x")]),
        (tf.float32, [1e39]),
        (tf.float32, [10**400]),
        (tf.int32, [1.0]),
        (tf.int32, [2**31]),
        (tf.int32, [True]),
        (tf.uint8, [-1]),
        (tf.bool, [1]),
        (tf.string, [1]),
        (tf.string, [None]),
        (tf.string, [{"b64": "not base64!"}]),
        (tf.string, [{"b64": 1}]),
        (tf.string, ["\ud800"]),
    ],
)
def test_a_value_of_another_kind_is_refused_not_converted(dtype, value):
    assert 'input "x"' in refusal({"inputs": {"x": value}}, {"x": tf.TensorSpec(None, dtype)})


@pytest.mark.parametrize(
    "image",
    [[[[1], [2]], [[3]]], [[[1], [2]], 3], [[[1], [2]], [[3], 4]], [[[1], [2]], [[3], [[4]]]]],
)
def test_ragged_lists_are_refused(image):
    assert "ragged" in refusal({"instances": [[[[1], [2]], [[3], [4]]], image]}, IMAGE)
    assert 'input "image"' in refusal({"instances": [image]}, IMAGE)


@pytest.mark.parametrize(
    "inputs", [[], 1.0, [[[[1]]]], [[[[1], [2]], [[3], [4]], [[5], [6]]]], [[1, 2], [3, 4]]]
)
def test_another_shape_than_the_signature_takes_is_refused(inputs):
    assert "(None, 2, 2, 1)" in refusal({"inputs": inputs}, IMAGE)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "not JSON"),
        ('{"instances": [1', "not JSON"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"inputs": ' + "1" * 5000 + "}", "not JSON"),
        ([1], "must be a JSON object"),
        ({}, "either"),
        ({"instances": ["a"], "inputs": ["a"]}, "not both"),
        ({"instances": []}, "at least one"),
        ({"instances": "a"}, "must be a list"),
        ({"instances": ["a"], "signature_name": 3}, "must be a string"),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(body, sentence):
    assert sentence in refusal(body, IMAGE_BYTES)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            {"instances": [{"left": [1, 2], "right": 3}, {"left": [1, 2]}]},
            'instance 1 lacks the input "right"',
        ),
        ({"instances": [{"left": [1, 2], "right": 3, "up": 1}]}, 'unknown input "up"'),
        ({"inputs": {"left": [[1, 2]]}}, 'lacks the input "right"'),
        ({"inputs": {"left": [[1, 2]], "right": [3], "up": 1}}, 'unknown input "up"'),
        ({"instances": [[1, 2]]}, "by name"),
        ({"inputs": [[1, 2]]}, "by name"),
        (
            {"instances": [{"left": [1, 2], "right": 3}, [1, 2]]},
            "instance 1 is a value without a name",
        ),
        (
            {"instances": [{"left": [1, 2], "right": 3}, {"left": [1], "right": 3}]},
            'input "left" is ragged',
        ),
    ],
)
def test_inputs_must_be_named_as_in_the_signature(body, sentence):
    assert sentence in refusal(body, PAIR)


SCALAR = {
    "image_bytes": tf.TensorSpec([None], tf.string),
    "score_threshold": tf.TensorSpec([], tf.float32),
    "most": tf.TensorSpec([], tf.int32),
}
DEFAULTS = {"score_threshold": tf.constant(0.01), "most": tf.constant(100)}


def settings(*instances):
    request = rest.parse_request(json.dumps({"instances": instances}).encode())
    given = rest.to_tensors(request, SCALAR, DEFAULTS)
    assert given["image_bytes"].shape == [len(instances)]
    return [float(given["score_threshold"]), int(given["most"])]


def test_instances_name_settings_that_hold_for_all_of_them():
    image = {"image_bytes": b64(JPEG_LIKE)}
    assert settings(image, image) == pytest.approx([0.01, 100])
    assert settings({**image, "score_threshold": 0.5}) == [0.5, 100]
    half = {**image, "score_threshold": 0.5, "most": 7}
    assert settings(half, half, half) == [0.5, 7]


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ({"most": 3}, {"most": 4}, '"most" differs between instances 0 and 1'),
        ({"most": 3}, {}, 'instance 1 lacks the input "most", which other instances have'),
        ({}, {"score_threshold": 0.5}, 'instance 0 lacks the input "score_threshold"'),
        ({"most": [3]}, {"most": [3]}, 'input "most" has shape (1,)'),
        ({"most": 0.5}, {"most": 0.5}, 'input "most" takes whole numbers'),
        ({"least": 1}, {"least": 1}, 'unknown input "least"'),
    ],
)
def test_settings_that_instances_do_not_share_are_refused(first, second, sentence):
    image = {"image_bytes": b64(JPEG_LIKE)}
    with pytest.raises(RequestError) as caught:
        settings({**image, **first}, {**image, **second})
    assert caught.value.status == 400 and sentence in str(caught.value)


def test_an_instance_that_cannot_be_read_has_an_error_and_no_answer():
    outputs = {"class_name": tf.constant(["a", "b"]), "valid": tf.constant([True, False])}
    rows = rest.to_answer(outputs, row_form=True, valid="valid")["predictions"]
    assert rows[0] == {"class_name": "a", "valid": True}
    assert set(rows[1]) == {"valid", "error"} and rows[1]["valid"] is False
    assert "not a JPEG" in rows[1]["error"]
    columns = rest.to_answer(outputs, row_form=False, valid="valid")["outputs"]
    assert columns == {"class_name": ["a", "b"], "valid": [True, False]}
    # In a model that cvpipe didn't export, an output of this name may mean something else.
    assert rest.to_answer(outputs, row_form=True)["predictions"][1]["class_name"] == "b"


def test_one_output_drops_its_name_and_several_keep_theirs():
    a, b = tf.constant([1, 2]), tf.constant([[0.5], [0.25]])
    assert rest.to_answer({"a": a}, row_form=True) == {"predictions": [1, 2]}
    assert rest.to_answer({"a": a}, row_form=False) == {"outputs": [1, 2]}
    assert rest.to_answer({"a": a, "b": b}, row_form=True) == {
        "predictions": [{"a": 1, "b": [0.5]}, {"a": 2, "b": [0.25]}]
    }
    assert rest.to_answer({"a": a, "b": b}, row_form=False) == {
        "outputs": {"a": [1, 2], "b": [[0.5], [0.25]]}
    }


def test_only_outputs_named_bytes_are_base64():
    strings = tf.constant([["é", b"\xff"]])
    assert rest.to_answer({"class_name": strings}, row_form=False) == {"outputs": [["é", "\ufffd"]]}
    assert rest.to_answer({"mask_bytes": strings}, row_form=False) == {
        "outputs": [[b64("é".encode()), b64(b"\xff")]]
    }
    assert rest.to_answer({"text": tf.constant("a")}, row_form=False) == {"outputs": "a"}


def test_non_finite_outputs_are_written_as_tokens():
    answer = rest.to_answer({"y": tf.constant([np.nan, np.inf, -np.inf])}, row_form=True)
    assert json.dumps(answer) == '{"predictions": [NaN, Infinity, -Infinity]}'


@pytest.mark.parametrize("other", [tf.constant(1.0), tf.constant([1.0])])
def test_row_form_needs_one_output_per_instance(other):
    with pytest.raises(RequestError, match="column format") as caught:
        rest.to_answer({"a": tf.constant([1, 2]), "b": other}, row_form=True)
    assert caught.value.status == 400


def test_a_dtype_without_json_value_is_unimplemented():
    with pytest.raises(RequestError, match="complex64") as caught:
        rest.to_answer({"y": tf.constant([1j], tf.complex64)}, row_form=False)
    assert caught.value.status == 501
    with pytest.raises(RequestError, match="complex64") as caught:
        tensors({"inputs": [1]}, {"x": tf.TensorSpec([None], tf.complex64)})
    assert caught.value.status == 501


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (tf.errors.InvalidArgumentError, 400),
        (tf.errors.NotFoundError, 404),
        (tf.errors.ResourceExhaustedError, 429),
        (tf.errors.InternalError, 500),
        (tf.errors.UnimplementedError, 501),
        (tf.errors.UnavailableError, 503),
    ],
)
def test_errors_of_the_model_have_the_status_of_tf_serving(error, status):
    assert to_request_error(error(None, None, "why")).status == status


def test_an_error_of_the_server_keeps_its_details_to_itself():
    for error in (tf.errors.UnknownError(None, None, "secret"), KeyError("secret")):
        answer = to_request_error(error)
        assert answer.status == 500 and "secret" not in str(answer)


def test_the_reason_of_the_model_arrives_without_its_graph():
    before = (
        "Graph execution error:\n\nDetected at node a/b defined at (most recent call last):\n<stack"
        " traces unavailable>\n"
    )
    error = tf.errors.InvalidArgumentError(None, None, before + "why\n\t [[{{node a/b}}]] [Op:f]")
    assert str(to_request_error(error)) == "the model refused the request: why"
