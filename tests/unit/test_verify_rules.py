"""Rules on data and names, each by scripts that break it and by look-alikes that do not."""

from pathlib import Path

import pytest
from small_submissions import PATHS, TRAINED, refused, reviewed

NETWORK = [
    "import requests as r\ndef sync(get):\n    return get('a')\nsync(getattr(r, 'g' + 'et'))\n",
    "import importlib\nlib = importlib.import_module('.'.join(['urllib', 'request']))\nlib.urlopen('x')\n",
    "from torch import hub as h\nh.load('a', 'b')\n",
    "import numpy as np\nnp.lib.npyio.DataSource(None).open('https://example.org/a')\n",
    "def unused():\n    import socket\n    socket.create_connection(('a', 1))\n",
]
PROCESSES = [
    "import subprocess as sp\nsp.run(['git', 'rev-parse', 'HEAD'])\n",
    "import os\ngetattr(os, 'sys' + 'tem')('ls')\n",
    "import os\nstart = {'a': os.popen}['a']\nstart('ls')\n",
    "import sys\nsys.modules['os'].system('ls')\n",
    "import os\nos.__dict__['system']('ls')\n",
    "from functools import partial\nimport subprocess\npartial(subprocess.check_output, shell=True)('curl x')\n",
    "import ctypes\nctypes.CDLL(None).system(b'ls')\n",
    "exec('import os; os.system(\"ls\")')\n",
]
HARMLESS = [
    "import subprocess\nprint(subprocess.run(['nvidia-smi'], capture_output=True, text=True).stdout)\n",
    "import socket\nprint(socket.gethostname())\n",
    (
        "class Bus:\n    def system(self): ...\n    def get(self, url): ...\n"
        "os = requests = Bus()\nos.system()\nrequests.get('a')\n"
    ),
    "from urllib.parse import quote\nprint(quote('a b'))\n",
    "print('see https://example.org/paper')\n",
]


@pytest.mark.parametrize("code", NETWORK)
def test_network(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code) == ["network"]


@pytest.mark.parametrize("code", PROCESSES)
def test_other_programs(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code) == ["process"]


@pytest.mark.parametrize("code", HARMLESS)
def test_what_only_looks_like_it(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code) == []


def test_import_of_subprocess_alone_and_lrzip_are_reviewed(tmp_path: Path) -> None:
    assert reviewed(tmp_path, "import subprocess\n") == ["process"]
    assert reviewed(tmp_path, "import subprocess\nsubprocess.run(['lrzip', '-z', 'a'])\n") == ["process"]


@pytest.mark.parametrize(
    "code",
    [
        "import base64\nexec(base64.b85decode(open('x').read()))\n",
        "import marshal, types\ntypes.FunctionType(marshal.loads(b'abc'), globals())()\n",
        "import os, builtins\ngetattr(builtins, 'ex' + 'ec')(os.environ.get('PATCH', 'pass'))\n",
    ],
)
def test_payloads_that_cannot_be_read(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code) == ["opaque"]


def test_code_that_is_only_hard_to_read_is_reviewed(tmp_path: Path) -> None:
    assert reviewed(tmp_path, "import math, sys\nprint(getattr(math, sys.argv[1])(1))\n") == ["opaque"]
    assert reviewed(tmp_path, "eval('1 + 1')\n") == ["opaque"]


def test_text_beside_is_executed(tmp_path: Path) -> None:
    (tmp_path / "part.txt").write_text("x = 1")
    code = "from pathlib import Path\nexec(Path(__file__).with_name('part.py').read_text())\n"
    assert refused(tmp_path, code) == ["single-file"]


def test_weights_beside_are_read(tmp_path: Path) -> None:
    (tmp_path / "prior.npy").write_bytes(b"1")
    code = "import numpy as np\nfrom pathlib import Path\nprint(np.load(Path(__file__).parent / 'prior.npy'))\n"
    assert refused(tmp_path, code) == ["single-file"]
    assert refused(tmp_path, code.replace("prior.npy", "own.npy")) == []


# ---- data

VAL_IN_TRAINING = [
    f"{PATHS}train(net, stream(sorted(glob.glob(root + '/fineweb_*.bin'))))\nfinish(net)\n",
    f"{PATHS}train(net, stream([p.replace('train', 'val') for p in glob.glob(TRAIN)]))\nfinish(net)\n",
    f"{PATHS}both = [*glob.glob(TRAIN), *glob.glob(VAL)]\ntrain(net, stream(both))\nfinish(net)\n",
    f"{PATHS}train(net, stream(glob.glob(TRAIN)))\nextra = read(glob.glob(VAL))\ntrain(net, [extra])\nfinish(net)\n",
]
NO_VAL_IN_TRAINING = [
    f"{PATHS}val_like = stream(glob.glob(TRAIN))\ntrain(net, val_like)\nfinish(net)\n",
    f"{PATHS}train(net, stream([p for p in glob.glob(root + '/fineweb_*.bin') if 'val' not in p]))\nfinish(net)\n",
    (
        f"{PATHS}warm = torch.randint(0, 1024, (8, 65))\ntrain(net, [warm])\n"
        f"train(net, stream(glob.glob(TRAIN)))\nfinish(net)\n"
    ),
    f"{PATHS}train(net, stream(glob.glob(TRAIN)))\nscore(net, read(glob.glob(VAL)))\nfinish(net)\n",
]


@pytest.mark.parametrize("code", VAL_IN_TRAINING)
def test_validation_tokens_in_training(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code) == ["val-in-training"]


@pytest.mark.parametrize("code", NO_VAL_IN_TRAINING)
def test_training_on_training_tokens(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code) == []


HESSIANS = """
stats = {}
def hook(module, given, out):
    x = given[0].flatten(0, 1)
    stats['h'] = stats.get('h', 0) + x.T @ x
net.register_forward_hook(hook)
net(SOURCE[None, :64], SOURCE[None, 1:65])
finish(net, stats)
"""


def test_hessians_of_validation_tokens(tmp_path: Path) -> None:
    code = f"{TRAINED}tokens = read(glob.glob(VAL)){HESSIANS.replace('SOURCE', 'tokens')}"
    assert refused(tmp_path, code) == ["val-in-quantization"]


def test_hessians_of_training_tokens(tmp_path: Path) -> None:
    code = f"{TRAINED}tokens = read(glob.glob(TRAIN)){HESSIANS.replace('SOURCE', 'tokens')}"
    assert refused(tmp_path, code) == []


def test_scales_of_validation_activations(tmp_path: Path) -> None:
    code = f"{TRAINED}rows = read(glob.glob(SPLIT))\nscale = net.embed(rows[:64]).abs().mean(0)\nfinish(net, scale)\n"
    assert refused(tmp_path, code.replace("SPLIT", "VAL")) == ["val-in-quantization"]
    assert refused(tmp_path, code.replace("SPLIT", "TRAIN")) == []


def test_training_shards_after_the_artifact_is_read_back(tmp_path: Path) -> None:
    code = f"{TRAINED}finish(net)\nload(net)\nscore(net, read(glob.glob(VAL)))\n"
    assert refused(tmp_path, code) == []
    assert refused(tmp_path, f"{code}print(len(glob.glob(TRAIN)))\n") == []
    assert refused(tmp_path, f"{code}train(net, stream(glob.glob(TRAIN)))\n") == ["train-in-eval"]


def test_checkpoint_chosen_by_validation_loss_is_reviewed(tmp_path: Path) -> None:
    code = f"{TRAINED}best = copy.deepcopy(net.state_dict())\nif score(net, read(glob.glob(VAL))) < 3:\n"
    code += "    best = copy.deepcopy(net.state_dict())\nnet.load_state_dict(best)\nfinish(net)\n"
    assert refused(tmp_path, code) == []
    assert "val-selection" in reviewed(tmp_path, code)


def test_what_needs_a_setting_is_reviewed_unless_the_folder_sets_it(tmp_path: Path) -> None:
    code = (
        f"{TRAINED}import os\nif int(os.environ.get('POLISH', '0')):\n"
        f"    train(net, [read(glob.glob(VAL))])\nfinish(net)\n"
    )
    assert refused(tmp_path, code) == []
    assert reviewed(tmp_path, code) == ["val-in-training"]
    (tmp_path / "README.md").write_text("POLISH=1 torchrun train_gpt.py\n")
    assert refused(tmp_path, code) == ["val-in-training"]
