package app

import (
	"fmt"
	"strings"
	"testing"
)

// glass is a terminal as far as a typewriter uses one.
type glass struct {
	width    int
	rows     []string
	row, col int
}

func (g *glass) Write(p []byte) (int, error) {
	for s := string(p); s != ""; {
		var n int
		switch {
		case strings.HasPrefix(s, "\x1b[J"):
			g.rows = append(g.rows[:g.row:g.row], g.rows[g.row][:g.col])
			s = s[3:]
			continue
		case strings.HasPrefix(s, "\x1b["):
			if _, err := fmt.Sscanf(s, "\x1b[%dA", &n); err != nil {
				return 0, err
			}
			g.row -= n
			s = s[strings.IndexByte(s, 'A')+1:]
			continue
		case s[0] == '\r':
			g.col = 0
		case s[0] == '\n':
			g.down()
		default:
			if g.col == g.width {
				g.down()
			}
			for len(g.rows) <= g.row {
				g.rows = append(g.rows, "")
			}
			g.rows[g.row] = g.rows[g.row][:g.col] + s[:1]
			g.col++
		}
		s = s[1:]
	}
	return len(p), nil
}

func (g *glass) down() {
	g.row, g.col = g.row+1, 0
	for len(g.rows) <= g.row {
		g.rows = append(g.rows, "")
	}
}

func TestTypewriter(t *testing.T) {
	t.Parallel()
	g := &glass{width: 10, rows: []string{""}}
	w := typewriter{out: g, size: func() (int, int) { return g.width, 6 }}
	for _, text := range []string{
		"...", "one", "one two three four", "one two three four\n- a", "one *two* three four\n- a", "short", "short\nand\n\nmore lines that wrap", "short\nand", "exactly 10",
		"exactly 10\nexactly 10", "exactly 10\nnow", "exactly 10",
	} {
		w.show(text)
		var want []string
		for line := range strings.SplitSeq(text, "\n") {
			for len(line) > g.width {
				want = append(want, line[:g.width])
				line = line[g.width:]
			}
			want = append(want, line)
		}
		if got := strings.TrimRight(strings.Join(g.rows, "\n"), "\n"); got != strings.Join(want, "\n") {
			t.Errorf("shows\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	}
	w.end()
	w.show("next")
	if got := strings.Join(g.rows, "\n"); got != "exactly 10\nnext" {
		t.Errorf("then shows\n%s", got)
	}
	// What has left the screen stays, and all is shown again below it.
	w.show("1\n2\n3\n4\n5\n6\n7")
	w.show("one\n2\n3\n4\n5\n6\n7")
	if got := strings.Join(g.rows, " "); got != "exactly 10 1 2 3 4 5 6 7 one 2 3 4 5 6 7" {
		t.Errorf("then shows\n%s", got)
	}
}
