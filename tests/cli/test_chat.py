#!/usr/bin/env python3
# labels: quick
"""tern chat: what the model gets, what is read again, commands, pipes, and a terminal with Ctrl-C.

    TERN=build/tern python3 tests/cli/test_chat.py [-v] [Class.test]

Only Python's standard library.  The checkpoint is the built-in model with a chat template of the test's own.
"""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
MODEL = os.path.join(SOURCE, "models", "tiny-shakespeare")
# Every turn looks the same in history and as the last one, so that ids stay what they were.
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{{ m.role | upper }}:\n{{ m.content }}{{ eos_token if m.role == 'assistant' }}\n"
            "{% endfor %}{% if add_generation_prompt %}ASSISTANT:\n{% endif %}")
GREEDY = ["--temp", "0", "-n", "12", "-q", "--threads", "1"]


def environment(**extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TERN", "HF_"))}
    env.update(TERN_TUNE="off", **extra)
    return env


class Chat(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.model = os.path.join(self.folder.name, "model")
        shutil.copytree(MODEL, self.model)
        self.configure(chat_template=TEMPLATE)

    def configure(self, **fields):
        path = os.path.join(self.model, "tokenizer_config.json")
        with open(path) as f:
            config = json.load(f)
        config.update(fields)
        with open(path, "w") as f:
            json.dump(config, f)

    def tokenizer(self, change):
        path = os.path.join(self.model, "tokenizer.json")
        with open(path) as f:
            tokenizer = json.load(f)
        change(tokenizer)
        with open(path, "w") as f:
            json.dump(tokenizer, f)

    def chat(self, lines, *args, code=0, greedy=True):
        """stdout; stderr is in self.stderr"""
        r = subprocess.run([TERN, "chat", self.model, *(GREEDY if greedy else []), *args], input=lines.encode(), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=environment(), cwd=self.folder.name, timeout=100)
        self.stderr = r.stderr.decode()
        self.assertEqual(r.returncode, code, self.stderr)
        return r.stdout.decode()

    def prompts(self, lines, *args):
        """the ids of each turn's prompt"""
        out = self.chat(lines, "--print-prompt", *args)
        return [json.loads(x) for x in re.findall(r"^\[[0-9, ]*\]$", out, re.M)]


class Pipes(Chat):
    def test_answers_alone_are_printed_one_for_a_line(self):
        both = self.chat("Who are you?\nAnd you?\n")
        first = self.chat("Who are you?\n")
        self.assertTrue(both.startswith(first) and len(both) > len(first))
        self.assertNotIn(">", both)
        self.assertEqual(self.stderr, "")
        self.assertTrue(first.endswith("\n"))

    def test_a_last_line_without_newline_counts_and_blank_ones_do_not(self):
        self.assertEqual(self.chat("\n  \nWho?"), self.chat("Who?\r\n"))
        self.assertEqual(self.chat(""), "")

    def test_the_answer_is_what_run_gives_for_the_rendered_prompt(self):
        messages = os.path.join(self.folder.name, "m.json")
        with open(messages, "w") as f:
            json.dump([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}], f)
        text = subprocess.run([TERN, "template", self.model, "-f", messages], stdout=subprocess.PIPE, check=True, env=environment()).stdout
        run = subprocess.run([TERN, "run", self.model, "-f", "-", *GREEDY], input=text, stdout=subprocess.PIPE, check=True, env=environment())
        self.assertEqual(self.chat("Who?\n", "--system", "Be brief."), run.stdout.decode() + "\n")

    def test_a_line_that_is_no_utf8_ends_with_an_error(self):
        r = subprocess.run([TERN, "chat", self.model, *GREEDY], input=b"\xff\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        self.assertEqual((r.returncode, r.stdout), (1, b""))
        self.assertIn(b"byte 0", r.stderr)

    def test_without_a_template_the_error_says_what_to_do(self):
        self.configure(chat_template=None)
        self.chat("a\n", code=1)
        self.assertIn("--template FILE", self.stderr)
        path = os.path.join(self.folder.name, "t.jinja")
        with open(path, "w") as f:
            f.write(TEMPLATE)
        out = self.chat("Who?\n", "--template", path)
        self.configure(chat_template=TEMPLATE)
        self.assertEqual(out, self.chat("Who?\n"))

    def test_a_full_context_is_an_error_with_both_numbers(self):
        self.chat("word " * 400 + "\n", code=1)
        self.assertIn("the context is 256", self.stderr)


class Prompt(Chat):
    def bos_by_the_tokenizer(self):
        def change(t):
            t["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                                                                            {"Sequence": {"id": "A", "type_id": 0}}],
                                   "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                                   "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}}
        self.tokenizer(change)

    def test_the_beginning_of_text_is_there_once(self):
        for by_template in (True, False):
            template = TEMPLATE if by_template else TEMPLATE.replace("{{ bos_token }}", "")
            self.configure(chat_template=template)
            self.tokenizer(lambda t: t.update(post_processor=None))
            plain = self.prompts("Who?\n")[0]
            self.assertEqual(plain.count(0), 1 if by_template else 0)
            self.bos_by_the_tokenizer()
            ids = self.prompts("Who?\n")[0]
            self.assertEqual((ids[0], ids.count(0)), (0, 1))

    def test_print_prompt_shows_text_and_ids(self):
        out = self.chat("Who?\n", "--print-prompt", "-n", "0")
        text = "<|endoftext|>USER:\nWho?\nASSISTANT:\n"
        self.assertTrue(out.startswith(text + "\n["), out)
        ids = json.loads(out[len(text):].split("\n")[1])
        decoded = subprocess.run([TERN, "detokenize", self.model, "--ids", ",".join(map(str, ids))], stdout=subprocess.PIPE, check=True,
                                 env=environment()).stdout
        self.assertEqual(decoded.decode(), text)

    def test_only_what_is_new_is_read(self):
        self.chat("Who?\nWhy then?\n/retry\n", "--figures", "--seed", "3")
        totals = [(int(a), int(b)) for a, b in re.findall(r"prompt (\d+) tokens, (\d+) of them new", self.stderr)]
        self.assertEqual(len(totals), 3)
        self.assertEqual(totals[0][0], totals[0][1])
        self.assertLess(totals[1][1], totals[1][0] - totals[0][0])  # all of the first prompt, and most of its answer
        self.assertEqual(totals[2][1], 1)

    def test_a_reused_sequence_answers_as_a_fresh_one(self):
        talk = self.chat("Who?\nWhy then?\n").splitlines()
        self.chat("Who?\n/save h.json\n")
        again = self.chat("/load h.json\nWhy then?\n").splitlines()
        self.assertEqual(talk[-len(again):], again)

    def test_an_answer_ends_at_the_templates_end_of_turn(self):
        """a special token that neither generation_config.json nor tokenizer_config.json knows: only the template shows it"""
        def change(t):
            self.end = next(k for k, v in t["model"]["vocab"].items() if v == 1000)
            t["added_tokens"].append({"id": 1000, "content": self.end, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                                      "special": True})
        self.tokenizer(change)
        bias = ["--logit-bias", "1000=1000", "--figures"]
        self.chat("Who?\n", *bias)
        self.assertIn("answer 12 tokens", self.stderr)
        self.configure(chat_template=TEMPLATE.replace("eos_token", f"'{self.end}'"))
        self.assertEqual(self.chat("Who?\n", *bias), "\n")
        self.assertIn("answer 0 tokens", self.stderr)
        self.chat("Who?\n", "--ignore-eos", *bias)
        self.assertIn("answer 12 tokens", self.stderr)


class Commands(Chat):
    def saved(self):
        with open(os.path.join(self.folder.name, "h.json")) as f:
            return json.load(f)

    def test_system_undo_reset_save_load(self):
        self.chat("/system Be brief.\nOne?\nTwo?\n/undo\n/save h.json\n")
        self.assertEqual([m["role"] for m in self.saved()], ["system", "user", "assistant"])
        self.assertEqual(self.saved()[0]["content"], "Be brief.")
        self.chat("/load h.json\n/system Be long.\n//slash \"q\"\\\t\u00e9\n/save h.json\n")
        self.assertEqual([m["role"] for m in self.saved()], ["system", "user", "assistant"] + ["user", "assistant"])
        self.assertEqual((self.saved()[0]["content"], self.saved()[3]["content"]), ("Be long.", "/slash \"q\"\\\t\u00e9"))
        self.chat("/load h.json\n/reset\n/save h.json\n")
        self.assertEqual(self.saved(), [{"role": "system", "content": "Be long."}])
        self.chat("/load h.json\n/system\n/save h.json\n")
        self.assertEqual(self.saved(), [])

    def test_messages_of_a_file_come_back_whole(self):
        messages = [{"role": "user", "content": [{"type": "text", "text": "a\nb"}], "n": 1.5}, {"role": "critic", "content": None, "calls": [{}]}]
        with open(os.path.join(self.folder.name, "h.json"), "w") as f:
            json.dump(messages, f)
        self.chat("/load h.json\n/save h.json\n")
        self.assertEqual(self.saved(), messages)

    def test_help_show_quit(self):
        self.assertEqual(self.chat("/help\n/show\n/quit\nnever\n"), "")
        for name in ("/reset", "/system", "/undo", "/retry", "/save", "/load", "/quit"):
            self.assertIn(name, self.stderr)
        self.chat("Who?\n/show\n")
        self.assertIn("user: Who?\nassistant: ", self.stderr)

    def test_wrong_commands_are_errors_and_change_nothing(self):
        for line, what in (("/nope", "no command '/nope'"), ("/save", "wants a FILE"), ("/load missing.json", "missing.json"), ("/undo", "no message"),
                           ("/retry", "no message"), ("/save /nowhere/at/all", "/nowhere/at/all")):
            self.chat(line + "\n", code=1)
            self.assertIn(what, self.stderr)
        with open(os.path.join(self.folder.name, "h.json"), "w") as f:
            f.write("{\"role\": 1}")
        self.chat("/load h.json\n", code=1)
        self.assertIn("expected an array", self.stderr)

    def test_retry_draws_anew_and_replaces_the_answer(self):
        out = self.chat("Who?\n/retry\n/save h.json\n", "--temp", "1", "--seed", "5", "-n", "12", "-q", greedy=False)
        self.assertEqual([m["role"] for m in self.saved()], ["user", "assistant"])
        self.assertTrue(out.endswith(self.saved()[1]["content"] + "\n"))


class Terminal(Chat):
    def start(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(TERN, [TERN, "chat", self.model, "--threads", "1", *args], environment(TERM="dumb"))
        self.seen = ""
        self.addCleanup(self.stop)

    def stop(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def until(self, text, seconds=60):
        """what came up to and with the text"""
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                self.fail(f"no {text!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
            except OSError:
                self.fail(f"ended before {text!r}: {self.seen!r}")
        before, self.seen = self.seen.split(text, 1)
        return before + text

    def type(self, text):
        os.write(self.fd, text.encode())

    def exit_code(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        self.fail("it does not end")

    def test_ctrl_d_ends(self):
        self.start(*GREEDY)
        self.until("> ")
        self.type("Who?\n")
        self.until("> ")
        self.type("\x04")
        self.assertEqual(self.exit_code(), 0)

    def test_quit_ends(self):
        self.start(*GREEDY)
        self.until("> ")
        self.type("/quit\n")
        self.assertEqual(self.exit_code(), 0)

    def test_ctrl_c_stops_an_answer_and_not_the_program(self):
        self.start("--ignore-eos", "--temp", "0", "--figures")
        self.until("> ")
        for _ in range(30):  # a short answer may be complete before the key is pressed
            self.type("Tell me a long tale\n")
            self.until("tale\r\n")
            while not self.seen:  # the first letters of the answer
                self.seen += os.read(self.fd, 1).decode(errors="replace")
            self.type("\x03")
            figures = self.until("ended by ") + self.until("\n")
            self.until("> ")
            if "cancelled" in figures:
                break
            if "Ctrl-C" not in self.seen:  # it came too late, and counts as one at the prompt
                self.until("> ")
            self.type("/reset\n")
            self.until("> ")
        self.assertIn("cancelled", figures)
        self.type("/show\n")
        shown = self.until("> ")
        self.assertIn("user: Tell me a long tale", shown)
        self.type("/reset\n")
        self.until("> ")
        self.type("And another\n")
        self.until("ended by length")
        self.until("> ")
        self.type("/quit\n")
        self.assertEqual(self.exit_code(), 0)

    def test_a_second_ctrl_c_at_the_prompt_ends(self):
        self.start(*GREEDY)
        self.until("> ")
        self.type("half a li\x03")
        self.until("(Ctrl-C again, /quit or Ctrl-D ends)")
        self.until("> ")
        self.type("Who?\n")  # a message in between: the next one is a first one again
        self.until("Who?\r\n")
        self.until("> ")
        self.type("\x03")
        self.until("ends)")
        self.until("> ")
        self.type("\x03")
        self.assertEqual(self.exit_code(), 130)

    def test_a_line_may_go_on_in_the_next(self):
        self.start(*GREEDY, "--print-prompt")
        self.until("> ")
        self.type("one\\\n")
        self.until(". ")
        self.type("two\n")
        self.until("USER:\r\none\r\ntwo\r\nASSISTANT:")
        self.until("> ")

    def test_what_is_pasted_is_one_message(self):
        self.start(*GREEDY, "--print-prompt")
        self.until("> ")
        self.type("one\n  two\\\n\nthree\n")
        self.until("USER:\r\none\r\n  two\\\r\n\r\nthree\r\nASSISTANT:")
        self.until("> ")

    def test_commands_that_come_at_once_are_so_many(self):
        self.start(*GREEDY)
        self.until("> ")
        self.type("/system Be brief\n/show\n/quit\n")
        self.until("system: Be brief")
        self.assertEqual(self.exit_code(), 0)

    def test_a_line_that_the_terminal_cuts_is_refused(self):
        self.start(*GREEDY)
        self.until("> ")
        for _ in range(5):
            self.type("x" * 1000)
            time.sleep(0.05)
        self.type("\n")
        self.until("gives 4095 bytes of a line at most")
        self.until("> ")
        self.type("/show\n/quit\n")
        self.assertNotIn("user:", self.until("/quit"))
        self.assertEqual(self.exit_code(), 0)

    def test_errors_do_not_end_it(self):
        self.start("--temp", "0", "-n", "12")
        self.until("> ")
        self.type("/nope\n")
        self.until("there is no command '/nope'")
        self.until("> ")
        self.type("word " * 400 + "\n")
        self.until("the context is 256")
        self.until("the message is left out; /undo and /reset make room")
        self.until("> ")
        self.type("Who?\n")
        self.until("> ")

    def test_sigterm_ends(self):
        self.start(*GREEDY)
        self.until("> ")
        os.kill(self.pid, signal.SIGTERM)
        self.assertEqual(self.exit_code(), 128 + signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
