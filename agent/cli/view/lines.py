"""One stream of text, arriving in pieces, as clean lines."""

from dataclasses import dataclass, field

from agent.cli.view.clean import Stream


@dataclass
class Lines:
    """`feed` gives the lines that are whole now, `close` the rest. A line longer than `longest` is cut and says by how
    much."""

    longest: int
    stream: Stream = field(default_factory=Stream)
    rest: str = ""  # the unfinished line, as far as it may be shown
    dropped: int = 0

    def feed(self, text: str) -> list[str]:
        first, *more = self.stream.feed(text).split("\n")
        lines = []
        self._extend(first)
        for line in more:
            lines.append(self._line())
            self._extend(line)
        return lines

    def close(self) -> list[str]:
        first, *more = self.stream.close().split("\n")
        self._extend(first)
        lines = [self._line()] if self.rest or self.dropped else []
        return lines + more

    def _extend(self, text: str) -> None:
        room = max(0, self.longest - len(self.rest))
        self.rest += text[:room]
        self.dropped += max(0, len(text) - room)

    def _line(self) -> str:
        cut = f"… ({self.dropped:,} more characters)" if self.dropped else ""
        line, self.rest, self.dropped = f"{self.rest}{cut}", "", 0
        return line
