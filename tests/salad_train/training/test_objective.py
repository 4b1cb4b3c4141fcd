"""The chunked objective is the dense one, in value and gradient, and zero where student and teacher are one."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
)

from salad_eval.errors import MissingExtraError, ModelError, UnknownNameError
from salad_train.training.objective import (
    CachedPositions,
    LogitHead,
    cached_divergences,
    cached_objective,
    check_head,
    objective,
    position_divergences,
)
from tests.helpers import speech_llm_world as world

N, VOCABULARY, WIDTH, TEACHER_WIDTH = 7, 11, 5, 6


def problem(seed: int = 0, dtype: torch.dtype = torch.float64, bias: bool = True) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "hidden": draw(N, WIDTH).requires_grad_(),
        "weight": draw(VOCABULARY, WIDTH).requires_grad_(),
        "bias": draw(VOCABULARY).requires_grad_() if bias else None,
        "teacher_hidden": draw(N, TEACHER_WIDTH),
        "teacher_weight": draw(VOCABULARY, TEACHER_WIDTH),
        "targets": torch.randint(VOCABULARY, (N,), generator=generator),
    }


def dense(p: dict[str, Any], alpha: float, scale: float, softcap: float | None, denominator: float) -> torch.Tensor:
    z = torch.nn.functional.linear(p["hidden"], p["weight"], p["bias"]) * scale
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    log_p = z.log_softmax(-1)
    log_q = (p["teacher_hidden"] @ p["teacher_weight"].t()).log_softmax(-1)
    kl = torch.nn.functional.kl_div(log_p, log_q, log_target=True, reduction="sum")
    nll = torch.nn.functional.nll_loss(log_p, p["targets"], reduction="sum")
    return (alpha * kl + (1 - alpha) * nll) / denominator


def chunked(
    p: dict[str, Any], alpha: float, scale: float, softcap: float | None, denominator: float, rows: int
) -> torch.Tensor:
    return objective(
        p["hidden"],
        LogitHead(p["weight"], p["bias"], scale, softcap),
        p["teacher_hidden"],
        LogitHead(p["teacher_weight"]),
        p["targets"],
        alpha=alpha,
        denominator=denominator,
        chunk_logits=rows * VOCABULARY,
    ).loss


HEADS = [(1.0, None, True), (0.25, None, False), (1.0, 2.0, True), (3.0, 1.5, False)]


@pytest.mark.parametrize(("scale", "softcap", "bias"), HEADS)
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_equals_the_dense_form(alpha: float, rows: int, scale: float, softcap: float | None, bias: bool) -> None:
    ours, theirs = problem(bias=bias), problem(bias=bias)
    loss = chunked(ours, alpha, scale, softcap, 13.0, rows)
    expected = dense(theirs, alpha, scale, softcap, 13.0)
    torch.testing.assert_close(loss, expected)
    (2 * loss).backward()
    (2 * expected).backward()
    for name in ("hidden", "weight", *(["bias"] if bias else [])):
        torch.testing.assert_close(ours[name].grad, theirs[name].grad)


@pytest.mark.parametrize(("scale", "softcap", "bias"), HEADS)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_gradcheck(alpha: float, scale: float, softcap: float | None, bias: bool) -> None:
    p = problem(bias=bias)

    def loss(hidden: torch.Tensor, weight: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return chunked(
            {**p, "hidden": hidden, "weight": weight, "bias": rest[0] if rest else None}, alpha, scale, softcap, 3.0, 3
        )

    inputs = [p["hidden"], p["weight"], *([p["bias"]] if bias else [])]
    assert torch.autograd.gradcheck(loss, inputs)


def test_a_frozen_head_gets_no_gradient_and_changes_nothing() -> None:
    ours, theirs = problem(), problem()
    ours["weight"].requires_grad_(False)
    chunked(ours, 1.0, 1.0, None, 1.0, 2).backward()
    dense(theirs, 1.0, 1.0, None, 1.0).backward()
    assert ours["weight"].grad is None
    torch.testing.assert_close(ours["hidden"].grad, theirs["hidden"].grad)


@given(st.integers(0, 999), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_splitting_a_batch_changes_neither_loss_nor_gradient(seed: int, alpha: float) -> None:
    """What gradient accumulation and data parallelism do: parts over the global count of scored tokens add up."""
    whole, parts = problem(seed), problem(seed)
    chunked(whole, alpha, 1.0, None, N, 3).backward()
    for rows in (slice(0, 2), slice(2, N)):
        part = {**parts, **{k: parts[k][rows] for k in ("hidden", "teacher_hidden", "targets")}}
        chunked(part, alpha, 1.0, None, N, 3).backward()
    torch.testing.assert_close(parts["hidden"].grad, whole["hidden"].grad)
    torch.testing.assert_close(parts["weight"].grad, whole["weight"].grad)


def test_the_logged_sums_are_the_two_terms() -> None:
    p = problem()
    found = objective(
        p["hidden"],
        LogitHead(p["weight"], p["bias"]),
        p["teacher_hidden"],
        LogitHead(p["teacher_weight"]),
        p["targets"],
        alpha=0.3,
    )
    assert found.kl_sum / N == pytest.approx(float(dense(p, 1.0, 1.0, None, N).detach()))
    assert found.nll_sum / N == pytest.approx(float(dense(p, 0.0, 1.0, None, N).detach()))
    assert float(found.loss.detach()) == pytest.approx((0.3 * found.kl_sum + 0.7 * found.nll_sum) / N)


def test_zero_with_zero_gradient_where_student_is_teacher() -> None:
    p = problem()
    head = LogitHead(p["weight"], p["bias"])
    teacher = LogitHead(p["weight"].detach(), p["bias"].detach())
    found = objective(p["hidden"], head, p["hidden"].detach(), teacher, p["targets"], alpha=1.0)
    found.loss.backward()
    assert abs(found.kl_sum) < 1e-12
    assert float(p["hidden"].grad.abs().max()) < 1e-12


def test_divergences_of_positions_sum_to_the_logged_kl() -> None:
    p = problem()
    heads = LogitHead(p["weight"], p["bias"]), LogitHead(p["teacher_weight"])
    values = position_divergences(p["hidden"], heads[0], p["teacher_hidden"], heads[1], chunk_logits=VOCABULARY * 2)
    found = objective(p["hidden"], heads[0], p["teacher_hidden"], heads[1], p["targets"], alpha=1.0)
    assert values.shape == (N,)
    assert float(values.min()) >= 0
    assert float(values.sum()) == pytest.approx(found.kl_sum)


def test_bfloat16_states_are_scored_in_float32() -> None:
    p = problem(dtype=torch.float32)
    half = {
        **p,
        "hidden": p["hidden"].detach().bfloat16().requires_grad_(),
        "teacher_hidden": p["teacher_hidden"].bfloat16(),
    }
    loss = chunked(half, 0.5, 1.0, None, N, 3)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dense(p, 0.5, 1.0, None, N), rtol=0.05, atol=0.05)
    loss.backward()
    assert half["hidden"].grad.dtype == torch.bfloat16
    assert p["weight"].grad.dtype == torch.float32


def test_different_vocabularies_and_empty_batches_are_refused() -> None:
    p = problem()
    with pytest.raises(ModelError, match="same tokenizer"):
        objective(
            p["hidden"],
            LogitHead(p["weight"]),
            p["teacher_hidden"],
            LogitHead(p["teacher_weight"][:-1]),
            p["targets"],
            alpha=1.0,
        )
    with pytest.raises(ModelError, match="positive"):
        objective(
            p["hidden"][:0],
            LogitHead(p["weight"]),
            p["teacher_hidden"][:0],
            LogitHead(p["teacher_weight"]),
            p["targets"][:0],
            alpha=1.0,
        )
    with pytest.raises(ModelError, match="alpha"):
        objective(
            p["hidden"],
            LogitHead(p["weight"]),
            p["teacher_hidden"],
            LogitHead(p["teacher_weight"]),
            p["targets"],
            alpha=1.5,
        )


# --- heads of real models --------------------------------------------------------------------------------------------


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    kv = {"num_key_value_heads": 1, "initializer_range": 0.5}
    if kind == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**sizes, **kv, head_dim=8, final_logit_softcapping=3.0)).eval()
    if kind == "granite":
        return GraniteForCausalLM(GraniteConfig(**sizes, **kv, logits_scaling=4.0)).eval()
    if kind == "cohere":
        return CohereForCausalLM(CohereConfig(**sizes, **kv, logit_scale=0.25)).eval()
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
        ).eval()
    return world.language_model(kind)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gemma2", "granite", "cohere"])
def test_the_heads_of_stock_models_are_understood(kind: str) -> None:
    check_head(tiny(kind))


def test_a_head_of_another_kind_is_refused() -> None:
    lm = tiny("gemma2")
    lm.config.final_logit_softcapping = None  # what a model with an unknown bend looks like
    lm.forward = lambda **kwargs: type(lm).forward(lm, **kwargs)
    expected = Gemma2ForCausalLM.forward

    def bent(**kwargs: Any) -> Any:
        output = expected(lm, **kwargs)
        output.logits = torch.tanh(output.logits)
        return output

    lm.forward = bent
    with pytest.raises(ModelError, match="does not know"):
        check_head(lm)


# --- precision -------------------------------------------------------------------------------------------------------


def test_float32_at_a_large_vocabulary_is_nearer_to_float64_than_a_dense_log_softmax() -> None:
    """A softmax of 150k logits in float32 adds up to 1 within 1e-5 only; the chunked form must not inherit that."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(150_000, 16, generator=generator)
    hidden = torch.randn(2, 16, generator=generator)
    other = hidden + 0.1 * torch.randn(2, 16, generator=generator)
    head = LogitHead(weight)
    found = objective(hidden, head, other, head, torch.zeros(2, dtype=torch.long), alpha=1.0).kl_sum
    # from the same float32 logits on: what is lost in making those is neither form's doing
    log_p, log_q = ((x @ weight.t()).double().log_softmax(-1) for x in (hidden, other))
    exact = float((log_q.exp() * (log_q - log_p)).sum())
    assert found == pytest.approx(exact, rel=3e-6)


def test_a_retained_graph_can_be_gone_through_again_and_a_freed_one_gives_its_gradient_away() -> None:
    p = problem()
    loss = chunked(p, 1.0, 1.0, None, N, 3)
    loss.backward(retain_graph=True)
    once = p["weight"].grad.clone()
    (3 * loss).backward()
    torch.testing.assert_close(p["weight"].grad, 4 * once)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


# --- a cached teacher ------------------------------------------------------------------------------------------------


def cached(p: dict[str, Any], k: int, draws: torch.Tensor | None = None) -> CachedPositions:
    """The teacher of a problem, its k likeliest tokens kept (or the tokens drawn)."""
    q = (p["teacher_hidden"] @ p["teacher_weight"].t()).double().softmax(-1)
    entropy = -(q * q.log()).sum(-1)
    if draws is not None:
        weights = torch.full(draws.shape, 1 / draws.shape[1], dtype=torch.float64)
        return CachedPositions(draws, weights, None, -entropy, entropy, VOCABULARY)
    weights, ids = q.topk(k, dim=-1)
    tail = q.scatter(-1, ids, 0.0).sum(-1)
    constant = torch.special.xlogy(weights, weights).sum(-1) + torch.special.xlogy(tail, tail)
    return CachedPositions(ids, weights, tail, constant, entropy, VOCABULARY)


def from_cache(p: dict[str, Any], teacher: CachedPositions, alpha: float, head: LogitHead, rows: int = 3) -> Any:
    return cached_objective(
        p["hidden"], head, teacher, p["targets"], alpha=alpha, denominator=5.0, chunk_logits=rows * VOCABULARY
    )


@pytest.mark.parametrize(("scale", "softcap", "bias"), HEADS)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 4, VOCABULARY])
def test_gradcheck_with_a_cached_teacher(k: int, alpha: float, scale: float, softcap: float | None, bias: bool) -> None:
    p = problem(bias=bias)
    teacher = cached(p, k)

    def loss(hidden: torch.Tensor, weight: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        head = LogitHead(weight, rest[0] if rest else None, scale, softcap)
        return from_cache({**p, "hidden": hidden}, teacher, alpha, head).loss

    assert torch.autograd.gradcheck(loss, [p["hidden"], p["weight"], *([p["bias"]] if bias else [])])


def test_gradcheck_with_drawn_tokens_one_of_them_twice() -> None:
    p = problem()
    draws = torch.randint(VOCABULARY, (N, 5), generator=torch.Generator().manual_seed(0))
    draws[:, 1] = draws[:, 0]
    teacher = cached(p, 5, draws)

    def loss(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return from_cache({**p, "hidden": hidden}, teacher, 0.7, LogitHead(weight, bias)).loss

    assert torch.autograd.gradcheck(loss, [p["hidden"], p["weight"], p["bias"]])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_all_tokens_kept_is_the_full_objective(alpha: float) -> None:
    ours, theirs = problem(), problem()
    found = from_cache(ours, cached(ours, VOCABULARY), alpha, LogitHead(ours["weight"], ours["bias"]))
    expected = dense(theirs, alpha, 1.0, None, 5.0)
    torch.testing.assert_close(found.loss, expected)
    found.loss.backward()
    expected.backward()
    for name in ("hidden", "weight", "bias"):
        torch.testing.assert_close(ours[name].grad, theirs[name].grad)
    assert found.nll_sum == pytest.approx(float(dense(theirs, 0.0, 1.0, None, 1.0).detach()))


@given(st.integers(0, 9999), st.floats(0.1, 6))
@settings(max_examples=60, deadline=None)
def test_fewer_kept_tokens_never_give_more_divergence(seed: int, spread: float) -> None:
    """Data processing: throwing tokens together cannot set two distributions further apart; each position by itself."""
    p = problem(seed)
    p["teacher_hidden"] = spread * p["teacher_hidden"]
    head = LogitHead(p["weight"].detach(), p["bias"].detach())
    hidden = p["hidden"].detach()
    full = position_divergences(hidden, head, p["teacher_hidden"], LogitHead(p["teacher_weight"]))
    before = torch.zeros(N, dtype=torch.float64)
    for k in range(1, VOCABULARY + 1):  # top-k is a refinement of top-(k − 1)
        now = cached_divergences(hidden, head, cached(p, k), chunk_logits=2 * VOCABULARY)
        assert bool((now >= before - 1e-9).all())
        before = now
    torch.testing.assert_close(before, full, rtol=1e-6, atol=1e-9)


def test_drawn_tokens_are_right_on_average() -> None:
    p = problem()
    head, hidden = LogitHead(p["weight"].detach(), p["bias"].detach()), p["hidden"].detach()
    q = (p["teacher_hidden"] @ p["teacher_weight"].t()).softmax(-1)
    draws = torch.multinomial(q, 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    full = position_divergences(hidden, head, p["teacher_hidden"], LogitHead(p["teacher_weight"]))
    torch.testing.assert_close(cached_divergences(hidden, head, cached(p, 0, draws)), full, rtol=0.05, atol=0.05)


def test_a_cached_teacher_of_other_shape_is_refused() -> None:
    p = problem()
    teacher = cached(p, 3)
    with pytest.raises(ModelError, match="same tokenizer"):
        from_cache(p, teacher, 1.0, LogitHead(p["weight"][:-1]))
    with pytest.raises(ModelError, match="cached positions"):
        from_cache({**p, "targets": p["targets"][:-1]}, teacher, 1.0, LogitHead(p["weight"]))
    with pytest.raises(ModelError, match="alpha"):
        from_cache(p, teacher, -0.1, LogitHead(p["weight"]))


# --- liger -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_parity_with_liger(alpha: float, bias: bool) -> None:
    pytest.importorskip("liger_kernel.chunked_loss", reason="liger-kernel is not installed")
    ours, theirs = problem(bias=bias, dtype=torch.float32), problem(bias=bias, dtype=torch.float32)
    found = {}
    for backend, p in (("torch", ours), ("liger", theirs)):
        head = LogitHead(p["weight"], p["bias"])
        found[backend] = objective(
            p["hidden"], head, p["teacher_hidden"], LogitHead(p["teacher_weight"]), p["targets"],
            alpha=alpha, denominator=13.0, chunk_logits=3 * VOCABULARY, backend=backend,
        )  # fmt: skip
        (2 * found[backend].loss).backward()
    a, b = found["torch"], found["liger"]
    torch.testing.assert_close(b.loss, a.loss, rtol=1e-5, atol=1e-6)
    assert (b.kl_sum, b.nll_sum, b.n) == (pytest.approx(a.kl_sum, rel=1e-5), pytest.approx(a.nll_sum, rel=1e-5), N)
    for name in ("hidden", "weight", *(["bias"] if bias else [])):
        torch.testing.assert_close(theirs[name].grad, ours[name].grad, rtol=1e-4, atol=1e-6)


def test_parity_with_liger_compiled_on_a_gpu() -> None:
    pytest.importorskip("liger_kernel.chunked_loss", reason="liger-kernel is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = {}
    for backend in ("torch", "liger"):
        p = {k: v.detach().cuda() if v is not None else None for k, v in problem(dtype=torch.float32).items()}
        head, teacher = LogitHead(p["weight"].requires_grad_(), p["bias"]), LogitHead(p["teacher_weight"])
        found[backend] = objective(
            p["hidden"].requires_grad_(), head, p["teacher_hidden"], teacher, p["targets"], alpha=0.5, backend=backend
        )
        found[backend].loss.backward()
        found[f"{backend} gradient"] = p["weight"].grad
    torch.testing.assert_close(found["liger"].loss, found["torch"].loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["liger gradient"], found["torch gradient"], rtol=1e-3, atol=1e-5)


def test_liger_says_how_to_get_it_and_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem()

    def ask(head: LogitHead, backend: Any) -> Any:
        teacher = LogitHead(p["teacher_weight"])
        return objective(p["hidden"], head, p["teacher_hidden"], teacher, p["targets"], alpha=1.0, backend=backend)

    stand_in = ModuleType("liger_kernel.chunked_loss")
    stand_in.LigerFusedLinearJSDLoss = None  # type: ignore[attr-defined]  # not reached: the head is refused before
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.chunked_loss", stand_in)
    with pytest.raises(ModelError, match="student's head scales or caps"):
        ask(LogitHead(p["weight"], softcap=3.0), "liger")
    monkeypatch.setitem(sys.modules, "liger_kernel.chunked_loss", None)
    with pytest.raises(MissingExtraError, match=r"salad-gap\[liger\]"):
        ask(LogitHead(p["weight"]), "liger")
    with pytest.raises(UnknownNameError, match=r"ligre.*liger"):
        ask(LogitHead(p["weight"]), "ligre")
