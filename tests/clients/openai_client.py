"""Drives the appliance with the official `openai` package, one action a run, one JSON object a line.

    openai_client.py BASE_URL KEY_FILE models
    openai_client.py BASE_URL KEY_FILE chat TEXT [--max-tokens N] [--stop TEXT ...]
    openai_client.py BASE_URL KEY_FILE stream TEXT [--max-tokens N]
    openai_client.py BASE_URL KEY_FILE embed TEXT [TEXT ...]
    openai_client.py BASE_URL KEY_FILE ask QUESTION [--collection NAME ...] [--stream]
    openai_client.py BASE_URL KEY_FILE cite ID
    openai_client.py BASE_URL KEY_FILE loop QUESTION       asks until standard input is closed

Exit code 0 when the action was answered, 3 when the appliance refused (the refusal is printed).
"""
import argparse
import json
import sys
import threading

import openai

MODEL = "default"


def say(**fields):
    print(json.dumps(fields), flush=True)


def extra(collections):
    return {"cloister": {"collections": collections}}


def ask(client, question, collections, stream):
    messages = [{"role": "user", "content": question}]
    body = extra(collections)
    if not stream:
        reply = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, extra_body=body)
        return reply.choices[0].message.content, reply.cloister
    text, ours = "", None
    for chunk in client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, stream=True, extra_body=body
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            text += chunk.choices[0].delta.content
        ours = getattr(chunk, "cloister", None) or ours
    return text, ours


def loop(client, question, collections):
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    answered = 0
    while not ended.is_set():
        text, ours = ask(client, question, collections, stream=answered % 2 == 1)
        answered += 1
        cited = sorted({citation["document"] for citation in ours["citations"]})
        say(answer=text, generation=ours["generation"], documents=cited)


def act(client, args):
    if args.action == "models":
        say(models=[model.id for model in client.models.list()])
    elif args.action == "chat":
        reply = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": args.text[0]}], max_tokens=args.max_tokens,
            temperature=0, stop=args.stop,
        )
        say(answer=reply.choices[0].message.content, finish=reply.choices[0].finish_reason,
            tokens=reply.usage.completion_tokens, fingerprint=reply.system_fingerprint)
    elif args.action == "stream":
        pieces = []
        usage = None
        for chunk in client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": args.text[0]}], max_tokens=args.max_tokens,
            temperature=0, stream=True, stream_options={"include_usage": True},
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                pieces.append(chunk.choices[0].delta.content)
            usage = chunk.usage or usage
        say(answer="".join(pieces), pieces=len(pieces), tokens=usage.completion_tokens)
    elif args.action == "embed":
        reply = client.embeddings.create(model=MODEL, input=args.text)
        say(vectors=len(reply.data), width=len(reply.data[0].embedding),
            products=[sum(a * b for a, b in zip(reply.data[0].embedding, other.embedding)) for other in reply.data])
    elif args.action == "ask":
        text, ours = ask(client, args.text[0], args.collection, args.stream)
        say(answer=text, **ours)
    elif args.action == "cite":
        say(**client.get("/citations/" + args.text[0], cast_to=object))
    else:
        loop(client, args.text[0], args.collection)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("key_file")
    parser.add_argument("action", choices=["models", "chat", "stream", "embed", "ask", "cite", "loop"])
    parser.add_argument("text", nargs="*")
    parser.add_argument("--collection", action="append", default=[])
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--stop", action="append")
    parser.add_argument("--stream", action="store_true")
    args = parser.parse_args()
    with open(args.key_file, encoding="ascii") as file:
        client = openai.OpenAI(base_url=args.base_url, api_key=file.read().strip(), max_retries=0, timeout=120)
    try:
        act(client, args)
    except openai.APIStatusError as error:
        say(status=error.status_code, code=error.code, type=error.type, message=error.message)
        sys.exit(3)


main()
