"""People drawn from key points."""

import numpy as np
import pytest

from vqgan.images import KEY_POINTS, Pose, draw_people

WAVING = {
    "nose": (100, 45),
    "left_eye": (104, 41),
    "right_eye": (96, 41),
    "left_shoulder": (122, 72),
    "right_shoulder": (78, 72),
    "left_elbow": (142, 50),
    "left_wrist": (145, 20),
    "right_elbow": (65, 105),
    "right_wrist": (60, 135),
    "left_hip": (114, 137),
    "right_hip": (86, 137),
    "left_knee": (118, 180),
    "right_knee": (82, 180),
}


def people(*named):
    found = np.zeros((len(named), 17, 3))
    for person, points in zip(found, named, strict=True):
        for name, place in points.items():
            person[KEY_POINTS.index(name)] = (*place, 2)
    return found


def test_the_key_points_are_those_of_coco():
    assert KEY_POINTS[:7] == (
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
    )
    assert KEY_POINTS[-2:] == ("left_ankle", "right_ankle")
    assert len(KEY_POINTS) == 17


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (512, 512)])
def test_limbs_and_joints_are_where_the_key_points_are_and_as_thick_as_the_picture_tells(size):
    scale = size[0] / 200
    drawn = draw_people(people(WAVING) * (scale, scale, 1), size)
    for name, (x, y) in WAVING.items():
        red, green, blue = drawn[int(y * scale), int(x * scale)].tolist()
        assert green > 150
        side = {"left": red > 2 * blue, "right": blue > 2 * red, "nose": red == blue}[name.partition("_")[0]]
        assert side or "eye" in name or scale < 1  # strokes overlap
    row = int(158 * scale)  # through both thighs
    lit = drawn[row].max(axis=1) > 0
    assert 2 * size[0] / 64 <= lit.sum() <= 2 * size[0] / 64 + 6
    assert draw_people(people(WAVING) * (scale, scale, 1), size).tobytes() == drawn.tobytes()


def test_a_mirrored_pose_is_drawn_as_the_mirrored_drawing_with_red_and_blue_exchanged():
    pose = Pose(people(WAVING, {name: (x - 40, y + 9) for name, (x, y) in WAVING.items()}), (200, 180))
    drawn, mirrored = draw_people(pose.people, pose.size), draw_people(pose.mirrored().people, pose.size)
    assert np.array_equal(mirrored, drawn[:, ::-1, ::-1])
    assert not np.array_equal(mirrored, drawn[:, ::-1])
    assert np.array_equal(pose.mirrored().mirrored().people, pose.people)


def test_every_person_is_drawn_and_what_is_not_seen_is_left_out():
    other = {"left_hip": (20.5, 20.5), "left_knee": (20.5, 60.5)}
    assert draw_people(people(), (80, 80)).max() == 0
    both = draw_people(people({"nose": (60.5, 60.5)}, other), (80, 80))
    assert both[60, 60].tolist() == [255, 255, 255]
    assert both[40, 20].tolist() == [255, 168, 60]
    hidden = people(other)
    hidden[0, KEY_POINTS.index("left_knee"), 2] = 0
    alone = draw_people(hidden, (80, 80))
    assert alone[20, 20].tolist() == [255, 255, 60]
    assert alone[40, 20].tolist() == alone[60, 20].tolist() == [0, 0, 0]


def test_a_limb_that_leaves_the_picture_ends_at_its_border():
    leaving = people({"left_hip": (20.5, 20.5), "left_knee": (20.5, 120.5)}, {"nose": (-300.0, 900.0)})
    drawn = draw_people(leaving, (80, 80))
    assert (drawn[30:, 20] == (255, 168, 60)).all()


def test_a_part_has_the_lines_of_the_whole():
    whole = draw_people(people(WAVING), (200, 200))
    part = draw_people(people(WAVING) - (40, 60, 0), (64, 80), side=200.0)
    assert np.array_equal(part, whole[60:124, 40:120])
