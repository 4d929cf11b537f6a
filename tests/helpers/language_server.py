"""A real small language model behind an HTTP server of OpenAI's forms, on loopback."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel


LETTERS = "abcdefghijklmnopqrstuvwxyz .,é\n"
VOCABULARY = {letter: number for number, letter in enumerate(LETTERS)}
KEY = "sk-limbeck-test-7f3a9c1e5b"
MODEL = "tiny-gpt2"


class LanguageModel:
    """A GPT-2 of random weights over single letters, with laws that are far from uniform."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(LETTERS), n_positions=64, n_embd=16, n_layer=1, n_head=2,
            bos_token_id=0, eos_token_id=0, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
        )  # fmt: skip
        self.network = GPT2LMHeadModel(config).double().eval()
        with torch.no_grad():
            self.network.transformer.wte.weight.mul_(25.0)
        self.lock = threading.Lock()
        self.logits = lru_cache(maxsize=None)(self._logits)

    def _logits(self, ids: tuple[int, ...]) -> np.ndarray:
        with self.lock, torch.no_grad():
            return self.network(torch.tensor([ids])).logits[0, -1].numpy()

    def law(self, ids: tuple[int, ...], temperature: float = 1.0) -> np.ndarray:
        """Return log-probabilities of the next token: logits minus their log-sum-exp."""
        scaled = self.logits(tuple(ids)) / temperature
        top = scaled.max()
        return scaled - (top + np.log(np.exp(scaled - top).sum()))


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(VOCABULARY[letter] for letter in text)


def text_of(ids: Any) -> str:
    return "".join(LETTERS[one] for one in ids)


@dataclass
class Behaviour:
    """What the server does; tests change it."""

    logprobs: bool = True
    cap: int = 20
    over_cap: str = "refuse"  # or "shorten"
    processed: bool = False
    outside: str = "number"  # or "sentinel", "absent"
    vllm: bool = False  # token ids, prompt scores, and the drawn token first in its list
    echo: bool = False
    cached: bool = False
    noise: float = 0.0
    grid: float = 0.0
    wrong_temperature: float = 1.0
    latency: float = 0.0
    shows_key: bool = False
    faults: list[str] = field(default_factory=list)  # one is used up by each request


class Server:
    """The server; ``requests`` has the bodies it was sent, ``answered`` those it answered."""

    def __init__(self, model: LanguageModel, behaviour: Behaviour | None = None) -> None:
        self.model, self.behaviour = model, behaviour or Behaviour()
        self.requests: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.random = np.random.default_rng(0)
        self.cache: dict[str, Any] = {}
        self.lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            server_of_tests = outer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and answer."""
        b = self.behaviour
        chat = path.endswith("/chat/completions")
        if not chat and not path.endswith("/v1/completions"):
            return 404, _error("no such path")
        if body["model"] != MODEL:
            return 404, _error(f"The model {body['model']} does not exist")
        if "".join(str(body.get("messages", body.get("prompt")))).find("refuse me") >= 0:
            return 400, _error("This prompt is refused")
        top = body.get("top_logprobs", 0) if chat else body.get("logprobs")
        wanted = b.logprobs and (body.get("logprobs") is True if chat else top is not None)
        if wanted and top > b.cap and b.over_cap == "refuse":
            return 400, _error(f"Invalid value for top_logprobs: at most {b.cap}")
        with self.lock:
            name = json.dumps(body)
            if b.cached and name in self.cache:
                return 200, self.cache[name]
            made = self._made(chat, body, min(top or 0, b.cap), wanted)
            self.cache[name] = made
        return 200, made

    def _made(self, chat: bool, body: dict[str, Any], top: int, wanted: bool) -> dict[str, Any]:
        b = self.behaviour
        prompt = _prompt(chat, body)
        steps = self._drawn(prompt, body)
        drawn = [token for token, _ in steps]
        text = text_of(drawn)
        named = bool(b.vllm and body.get("return_tokens_as_token_ids"))
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if wanted:
            choice["logprobs"] = (self._chat if chat else self._flat)(steps, top, named)
        if b.echo and body.get("echo") and wanted and not chat:
            scored = [(prompt[i], self.model.law(prompt[:i])) for i in range(1, len(prompt))]
            flat = self._flat([*scored, *steps], top, named)
            flat["tokens"].insert(0, LETTERS[prompt[0]])
            flat["token_logprobs"].insert(0, None)
            flat["top_logprobs"].insert(0, None)
            choice |= {"logprobs": flat, "text": text_of(prompt) + text}
        answer: dict[str, Any] = {
            "id": f"answer-{len(self.answered)}",
            "object": "chat.completion" if chat else "text_completion",
            "model": MODEL,
            "choices": [choice],
        }
        if b.vllm:
            self._add_vllm(answer if chat else choice, choice, prompt, drawn, body)
        if b.shows_key:
            answer["note"] = f"authorised with {KEY}"
        return answer

    def _add_vllm(self, holder: Any, choice: Any, prompt: Any, drawn: Any, body: Any) -> None:
        if body.get("return_token_ids"):
            choice["token_ids"] = drawn
            holder["prompt_token_ids"] = list(prompt)
        if body.get("prompt_logprobs") is not None:
            holder["prompt_logprobs"] = self._scores(prompt, body["prompt_logprobs"])

    def _drawn(self, prompt: tuple[int, ...], body: dict[str, Any]) -> list[Any]:
        """Return (token, law as it is told) for each token drawn."""
        b = self.behaviour
        random = np.random.default_rng(body["seed"]) if "seed" in body else self.random
        temperature = body.get("temperature", 1.0)
        steps: list[Any] = []
        for _ in range(body.get("max_tokens", body.get("max_completion_tokens", 16))):
            context = (*prompt, *(token for token, _ in steps))
            told = law = self.model.law(context)
            token = int(law.argmax())
            if temperature:
                sampler = self.model.law(context, temperature * b.wrong_temperature)
                token = int(random.choice(len(law), p=np.exp(sampler)))
                told = self.model.law(context, temperature) if b.processed else law
            told = told + b.noise * self.random.standard_normal()
            steps.append((token, np.round(told / b.grid) * b.grid if b.grid else told))
        return steps

    def _number(self, law: np.ndarray, token: int, inside: bool) -> float | None:
        kind = "number" if inside else self.behaviour.outside
        return {"number": float(law[token]), "sentinel": -9999.0, "absent": None}[kind]

    def _chat(self, steps: Any, top: int, named: bool) -> dict[str, Any]:
        content = []
        for token, law in steps:
            largest = [int(one) for one in np.argsort(-law, kind="stable")[:top]]
            cap = np.argsort(-law, kind="stable")[: self.behaviour.cap]
            listed = largest
            if self.behaviour.vllm and top:
                listed = list(dict.fromkeys([token, *largest]))[:top]
            content.append(
                {
                    **_token(token, self._number(law, token, token in cap), named),
                    "top_logprobs": [_token(one, float(law[one]), named) for one in listed],
                }
            )
        return {"content": content}

    def _flat(self, steps: Any, top: int, named: bool) -> dict[str, Any]:
        made: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": []}
        for token, law in steps:
            largest = [int(one) for one in np.argsort(-law, kind="stable")[:top]]
            cap = np.argsort(-law, kind="stable")[: self.behaviour.cap]
            number = self._number(law, token, token in cap)
            listed = {_name(one, named): float(law[one]) for one in largest}
            if number is not None and number > -9999 and top:
                listed.setdefault(_name(token, named), number)  # the k+1-th
            made["tokens"].append(_name(token, named))
            made["token_logprobs"].append(number)
            made["top_logprobs"].append(listed)
        return made

    def _scores(self, prompt: tuple[int, ...], top: int) -> list[Any]:
        found: list[Any] = [None]
        for place in range(1, len(prompt)):
            law = self.model.law(prompt[:place])
            order = [int(one) for one in np.argsort(-law, kind="stable")]
            listed = dict.fromkeys([prompt[place], *order[:top]])
            found.append(
                {
                    str(one): {
                        "logprob": float(law[one]),
                        "rank": order.index(one) + 1,
                        "decoded_token": LETTERS[one],
                    }
                    for one in listed
                }
            )
        return found


class _Handler(BaseHTTPRequestHandler):
    server_of_tests: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        server = self.server_of_tests
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.keys.add(self.headers["authorization"])
        server.requests.append(body)
        with server.lock:
            fault = server.behaviour.faults.pop(0) if server.behaviour.faults else None
        if not fault:
            time.sleep(server.behaviour.latency)
            status, answer = server.answer(self.path, body)
        elif fault == "hang up":
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b'{"id": "ans')
            self.wfile.flush()
            self.close_connection = True
            return
        elif fault == "no json":
            status, answer = 200, None
        else:
            status = int(fault)
            answer = _error(f"Bad key {KEY} in {self.headers['authorization']}")
        raw = b"<html>hello" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if answer else "text/html")
        self.send_header("content-length", str(len(raw)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        try:
            self.wfile.write(raw)
            self.wfile.flush()
        except BrokenPipeError:
            return
        if status == 200:
            server.answered.append(body)


def _prompt(chat: bool, body: dict[str, Any]) -> tuple[int, ...]:
    if chat:
        return ids_of("".join(one["content"] for one in body["messages"]).lower())
    given = body["prompt"]
    return ids_of(given.lower()) if isinstance(given, str) else tuple(given)


def _token(token: int, log: float | None, named: bool) -> dict[str, Any]:
    name = _name(token, named)
    return {"token": name, "logprob": log, "bytes": list(name.encode())}


def _name(token: int, named: bool) -> str:
    return f"token_id:{token}" if named else LETTERS[token]


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}
