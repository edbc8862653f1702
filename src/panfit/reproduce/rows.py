"""The rows of the paper's Table 1 and Table 2, and the numbers it prints for them, copied by hand and tested."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from panfit.errors import ConfigError

TableName = Literal["table1", "table2"]
TABLE_NAMES: tuple[TableName, ...] = get_args(TableName)

SOURCE = "Huijing Zhan and Jie Lin: PAN: Personalized Attention Network for Outfit Recommendation. ICASSP 2021"


@dataclass(frozen=True)
class Scores:
    """A row of numbers as the paper prints them."""

    fitb: float
    auc: float
    ndcg: float

    def minus(self, other: "Scores") -> "Scores":
        """The margin over another row, to the digits that the paper prints."""
        return Scores(*(round(getattr(self, name) - getattr(other, name), 4) for name in ("fitb", "auc", "ndcg")))


@dataclass(frozen=True)
class Row:
    """A method, or a step of the ablation.

    Attributes:
        name: in file names, on the command line, and as a result's model.
        title: as the paper calls it.
        note: what it is, in a few words.
        config_file: its settings' name in a recipe's folder.
    """

    name: str
    title: str
    note: str
    config_file: str


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        name: "table1" or "table2".
        title: as the paper numbers it.
        question: what it asks.
        rows: from the weakest to the proposed.
        margin: the two rows whose difference is the table's claim, the better one first.
        claim: that difference in words.
        paper: the paper's data set -> row name -> its numbers.
    """

    name: TableName
    title: str
    question: str
    rows: tuple[Row, ...]
    margin: tuple[str, str]
    claim: str
    paper: Mapping[str, Mapping[str, Scores]]

    def choose(self, names: Sequence[str] | None) -> tuple[Row, ...]:
        """The rows of the given names, all if None, in the table's order. Raises ConfigError for an unknown name."""
        known = [row.name for row in self.rows]
        unknown = [name for name in names or () if name not in known]
        if unknown or names == []:
            raise ConfigError(f"--rows {','.join(names or ())}: {self.name} has the rows {', '.join(known)}")
        return tuple(row for row in self.rows if names is None or row.name in names)

    def column(self, dataset_name: str) -> str:
        """Which of the paper's data sets stands beside ours: the same one, else Polyvore-630."""
        return dataset_name if dataset_name in self.paper else POLYVORE_630


CEILING = Row("ceiling", "Ceiling", "the true tastes as a scorer", "")
"""What stands below a table's rows where the data set is a drawn world."""

POLYVORE_630, POLYVORE_519 = "polyvore-630", "polyvore-519"

TABLES: dict[TableName, Table] = {
    "table1": Table(
        name="table1",
        title="Table 1",
        question="Is PAN better than what was there before it?",
        rows=(
            Row("popularity", "Popularity", "a plain baseline: what is liked most", "table1-popularity.toml"),
            Row("linear", "Linear", "a plain baseline: colors, one regression a user", "table1-linear.toml"),
            Row("siamese", "SiameseNet", "what is worn together lies close", "table1-siamese.toml"),
            Row("bilstm", "Bi-LSTM", "an outfit is a sentence", "table1-bilstm.toml"),
            Row("csn", "CSN", "type-aware embeddings", "table1-csn.toml"),
            Row("fhn", "FHN", "personal hash codes", "table1-fhn.toml"),
            Row("pan", "PAN", "the proposed network", "table1-pan.toml"),
        ),
        margin=("pan", "fhn"),
        claim="what PAN adds to FHN",
        paper={
            POLYVORE_630: {
                "siamese": Scores(0.5103, 0.7703, 0.6109),
                "bilstm": Scores(0.5515, 0.8102, 0.6629),
                "csn": Scores(0.5536, 0.8187, 0.6744),
                "fhn": Scores(0.6461, 0.9176, 0.8541),
                "pan": Scores(0.6608, 0.9311, 0.8694),
            },
            POLYVORE_519: {
                "siamese": Scores(0.5304, 0.8026, 0.6648),
                "bilstm": Scores(0.5232, 0.7746, 0.6210),
                "csn": Scores(0.5617, 0.8215, 0.6703),
                "fhn": Scores(0.6386, 0.9137, 0.8448),
                "pan": Scores(0.6503, 0.9242, 0.8562),
            },
        },
    ),
    "table2": Table(
        name="table2",
        title="Table 2",
        question="What is each part of PAN worth?",
        rows=(
            Row("none", "None", "hash codes and Eq. 4 alone", "table2-none.toml"),
            Row("ul", "UL", "+ user-specific loss", "table2-ul.toml"),
            Row("ul_hn", "UL + HN", "+ user-aware hard negatives", "table2-ul_hn.toml"),
            Row("ul_hn_an", "UL + HN + AN", "+ attention network: PAN", "table2-ul_hn_an.toml"),
        ),
        margin=("ul_hn_an", "none"),
        claim="all three parts together",
        paper={
            POLYVORE_630: {
                "none": Scores(0.6283, 0.9109, 0.8422),
                "ul": Scores(0.6399, 0.9189, 0.8528),
                "ul_hn": Scores(0.6429, 0.9235, 0.8578),
                "ul_hn_an": Scores(0.6458, 0.9259, 0.8602),
            },
            POLYVORE_519: {
                "none": Scores(0.6188, 0.9027, 0.8253),
                "ul": Scores(0.6274, 0.9103, 0.8362),
                "ul_hn": Scores(0.6301, 0.9139, 0.8392),
                "ul_hn_an": Scores(0.6329, 0.9153, 0.8414),
            },
        },
    ),
}

PAPER = {name: table.paper for name, table in TABLES.items()}
"""Table -> the paper's data set -> row -> its FITB, AUC and NDCG (`SOURCE`)."""
