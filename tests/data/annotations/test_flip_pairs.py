"""Guards the pairs of left and right keypoints that are found by name."""

from __future__ import annotations

import pytest

from cvpipe.data.annotations.flip_pairs import flip_pairs_of, unpaired_sides


@pytest.mark.parametrize(
    "left_and_right",
    [
        ("left_eye", "right_eye"),
        ("eye_left", "eye_right"),
        ("lefteye", "righteye"),
        ("Left_Eye", "Right_Eye"),
        ("LEFT-EYE", "RIGHT-EYE"),
        ("left eye", "right eye"),
        ("leftEye", "rightEye"),
        ("L_eye", "R_eye"),
        ("eye_l", "eye_r"),
        ("Eye.L", "Eye.R"),
        ("eyeL", "eyeR"),
        ("LEye", "REye"),
        ("finger_l2", "finger_r2"),
        ("Left_eye", "right eye"),
        ("l_eye", "right_eye"),
        ("left_eye_left_corner", "right_eye_right_corner"),
        ("left_eye_right_corner", "right_eye_left_corner"),
    ],
)
def test_names_that_differ_only_in_left_and_right_are_a_pair(
    left_and_right: tuple[str, str],
) -> None:
    left, right = left_and_right
    assert flip_pairs_of(["nose", right, "tail", left]) == ((3, 1),)
    assert not unpaired_sides(["nose", right, left], ((2, 1),))


@pytest.mark.parametrize(
    "names",
    [
        ("nose", "tail"),
        ("left_eye", "right_ear"),
        ("left_eye_left_corner", "right_eye_left_corner"),
        ("wheel", "wheer"),
        ("left_eye", "Left_Eye", "right_eye"),
    ],
)
def test_other_names_are_no_pair(names: tuple[str, ...]) -> None:
    assert flip_pairs_of(names) == ()


def test_names_of_one_side_without_a_partner_are_found() -> None:
    names = ("Left_Eye", "right_eye", "ear.l", "knee", "RHand", "collar", "upright", "cleft")
    assert unpaired_sides(names, flip_pairs_of(names)) == ("ear.l", "RHand")
