package config

import (
	"fmt"
	"strings"
)

//go:generate go test . -run TestGenerated -update

const lineWidth = 88

// Example is the text of .env.example: every option with its meaning, those that have a default
// commented out.
func Example() string {
	var b strings.Builder
	comment(&b, "The settings of wabot. Copy this file to .env and fill in what is not commented out; the rest shows its default, or an example, and may stay as it is. The environment wins over this file.")
	comment(&b, "Write a value with # or $ in it in 'single quotes'.")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n# --- %s %s\n", s.title, strings.Repeat("-", lineWidth-len("# ---  ")-len(s.title)))
		for _, o := range s.options {
			if o.tests {
				continue
			}
			b.WriteString("\n")
			comment(&b, o.means)
			if o.secret {
				comment(&b, o.fromFile())
			}
			switch {
			case o.def != "":
				fmt.Fprintf(&b, "# %s=%s\n", o.name, quoted(o.def))
			case o.example != "":
				fmt.Fprintf(&b, "# %s=%s\n", o.name, quoted(o.example))
			default:
				fmt.Fprintf(&b, "%s=\n", o.name)
			}
		}
	}
	return b.String()
}

func (o option) fromFile() string {
	return fmt.Sprintf("%s%s may name a file to read it from instead.", o.name, fileSuffix)
}

// comment writes text as comment lines no wider than lineWidth, but for a word that is wider.
func comment(b *strings.Builder, text string) {
	width := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case width == 0:
			b.WriteString("#")
			width = 1
		case width+1+len(word) > lineWidth:
			b.WriteString("\n#")
			width = 1
		}
		b.WriteString(" " + word)
		width += 1 + len(word)
	}
	b.WriteString("\n")
}

// quoted is a value as the .env file needs it.
func quoted(value string) string {
	if strings.ContainsAny(value, "#$'\"\\") {
		return "'" + value + "'"
	}
	return value
}
