"""Every script of the corpus."""

from verify_corpus.build import Script
from verify_corpus.hidden import HIDDEN
from verify_corpus.innocent_adaptation import ADAPTATION
from verify_corpus.innocent_code import CODE
from verify_corpus.innocent_model import MODEL
from verify_corpus.innocent_scoring import SCORING
from verify_corpus.innocent_splits import DATA
from verify_corpus.network import NETWORK
from verify_corpus.ngram_target import NGRAM_TARGET
from verify_corpus.process import PROCESS
from verify_corpus.reports import REPORTS
from verify_corpus.single_file import SINGLE_FILE
from verify_corpus.slot import SLOT
from verify_corpus.target_leak import TARGET_LEAK
from verify_corpus.train_in_eval import TRAIN_IN_EVAL
from verify_corpus.ttt_order import TTT_ORDER
from verify_corpus.val_in_quantization import VAL_IN_QUANTIZATION
from verify_corpus.val_in_training import VAL_IN_TRAINING

SCRIPTS: tuple[Script, ...] = (
    *(*NETWORK, *PROCESS, *SINGLE_FILE, *HIDDEN),
    *(*VAL_IN_TRAINING, *VAL_IN_QUANTIZATION, *TRAIN_IN_EVAL),
    *(*TTT_ORDER, *SLOT, *NGRAM_TARGET, *TARGET_LEAK),
    *REPORTS,
    *(*CODE, *DATA, *MODEL, *SCORING, *ADAPTATION),
)
