// Package format makes a language model's text fit for WhatsApp: Markdown turns to the markup
// that WhatsApp knows, and a long text becomes several messages.
//
// WhatsApp knows *bold*, _italic_, ~strikethrough~, `code`, ```code blocks```, lists and quotes. Its marks work
// within one line and at the borders of words only, cannot be escaped, and do not nest in
// themselves. So what it cannot show is said in plain text, and words are never lost for the sake of looks.
package format

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// maxDepth is how deep blocks and marks may nest: more than any text does that means it, and little enough that
// indenting every level stays cheap.
const maxDepth = 32

// maxParse is how many runes are parsed at once.
const maxParse = 16 << 10

// tableWidth is how many columns of monospaced text a phone shows in one line of a message.
const tableWidth = 32

var markdown = parser.NewParser(
	parser.WithBlockParsers(parser.DefaultBlockParsers()...),
	parser.WithInlineParsers(append(parser.DefaultInlineParsers(),
		util.Prioritized(strikethrough{}, 500),
		util.Prioritized(extension.NewLinkifyParser(), 999))...),
	parser.WithParagraphTransformers(append(parser.DefaultParagraphTransformers(),
		util.Prioritized(extension.NewTableParagraphTransformer(), 200))...),
	parser.WithASTTransformers(util.Prioritized(extension.NewTableASTTransformer(), 0)),
)

// Markdown turns Markdown (CommonMark, with GitHub's tables and double-tilde strikethrough) into WhatsApp's markup. A line
// stays a line. What is no Markdown comes out as it is, but for control characters and blank lines around it.
//
// What nests deeper than any sensible text stays Markdown, and a text above maxParse runes is converted in
// pieces, cut where Split cuts: the parser takes time by the square of some odd texts.
func Markdown(s string) string {
	var out []string
	for _, piece := range Split(clean(s), maxParse) {
		if piece = convert(piece); piece != "" {
			out = append(out, piece)
		}
	}
	return strings.Join(out, "\n\n")
}

func convert(s string) string {
	src := []byte(s)
	doc := markdown.Parse(text.NewReader(src))
	r := &renderer{src: src, linked: map[string]bool{}}
	depth, deepest := 0, 0
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			depth--
			return ast.WalkContinue, nil
		}
		depth++
		deepest = max(deepest, depth)
		if l, ok := n.(*ast.Link); ok {
			r.linked[string(l.Destination)] = true
		}
		return ast.WalkContinue, nil
	})
	if deepest > maxDepth {
		return strings.Trim(s, "\n")
	}
	return strings.Trim(r.blocks(doc, "\n\n"), "\n")
}

// clean takes out what no reader sees: control characters, and bytes that are no text.
func clean(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "")
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\r':
			return '\n'
		case c != '\n' && c != '\t' && unicode.IsControl(c):
			return -1
		}
		return c
	}, s)
}

type renderer struct {
	src    []byte
	linked map[string]bool // destinations of the links in the text
}

// blocks renders the blocks within n, with sep between them.
func (r *renderer) blocks(n ast.Node, sep string) string {
	var out []string
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if s := r.block(c); s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, sep)
}

func (r *renderer) block(n ast.Node) string {
	switch n := n.(type) {
	case *ast.Heading:
		return resolve(append(append([]token{{open: '*'}}, r.inlines(n)...), token{end: '*'}))
	case *ast.ThematicBreak:
		return "──────────"
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		return codeBlock(r.lines(n))
	case *ast.Blockquote:
		return r.quote(n)
	case *ast.List:
		return r.list(n)
	case *ast.HTMLBlock:
		s := r.lines(n)
		if n.HasClosure() {
			s += string(n.ClosureLine.Value(r.src))
		}
		return strings.Trim(lineBreak.ReplaceAllString(s, "\n"), "\n")
	case *ast.LinkReferenceDefinition:
		// A source that the text does not link to would be lost.
		if r.linked[string(n.Destination)] {
			return ""
		}
		return fmt.Sprintf("[%s]: %s", n.Label, n.Destination)
	case *extast.Table:
		return r.table(n)
	}
	return strings.Trim(resolve(r.inlines(n)), "\n")
}

// lines is the source of a block that is not parsed further.
func (r *renderer) lines(n ast.Node) string {
	return string(n.Lines().Value(r.src))
}

// codeBlock is without the language, which WhatsApp would show as a line of the code. Code that has WhatsApp's fence in
// it cannot be fenced.
func codeBlock(code string) string {
	code = strings.TrimRight(code, "\n")
	if strings.TrimSpace(code) == "" {
		return ""
	}
	if strings.Contains(code, "```") {
		return code
	}
	return "```\n" + code + "\n```"
}

// quote puts a mark before every line. WhatsApp has no quotes in quotes, and no empty lines in them.
func (r *renderer) quote(n *ast.Blockquote) string {
	var out []string
	for line := range strings.SplitSeq(r.blocks(n, "\n"), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if !strings.HasPrefix(line, "> ") {
			line = "> " + line
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func (r *renderer) list(l *ast.List) string {
	var out []string
	number := l.Start
	for item := l.FirstChild(); item != nil; item = item.NextSibling() {
		mark := "-"
		if l.IsOrdered() {
			mark = fmt.Sprintf("%d%c", number, l.Marker)
			number++
		}
		out = append(out, r.item(item, mark+" "))
	}
	if l.IsTight {
		return strings.Join(out, "\n")
	}
	return strings.Join(out, "\n\n")
}

// item renders a list item: its first line after the mark, the others below that. Code keeps its own columns.
func (r *renderer) item(n ast.Node, mark string) string {
	var out strings.Builder
	out.WriteString(strings.TrimRight(mark, " "))
	indent := strings.Repeat(" ", len(mark))
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		s := r.block(c)
		if s == "" {
			continue
		}
		code := strings.HasPrefix(s, "```\n")
		switch {
		case out.Len() < len(mark) && !code:
			out.WriteString(" ")
		case c != n.FirstChild() && c.HasBlankPreviousLines():
			out.WriteString("\n\n")
		default:
			out.WriteString("\n")
		}
		for i, line := range strings.Split(s, "\n") {
			if i > 0 {
				out.WriteString("\n")
			}
			if line != "" && !code && out.Len() > len(mark) && (i > 0 || strings.HasSuffix(out.String(), "\n")) {
				out.WriteString(indent)
			}
			out.WriteString(line)
		}
	}
	return out.String()
}

// table draws a narrow table in monospaced text; a wide one becomes a list for each row.
func (r *renderer) table(t *extast.Table) string {
	var plain, marked [][]string
	var wide []int
	fenced := false
	for row := t.FirstChild(); row != nil; row = row.NextSibling() {
		var p, m []string
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			tokens := r.inlines(cell)
			s := strings.Join(strings.Fields(plainText(tokens)), " ")
			if len(p) == len(wide) {
				wide = append(wide, 0)
			}
			wide[len(p)] = max(wide[len(p)], uniseg.StringWidth(s))
			p = append(p, s)
			m = append(m, strings.Join(strings.Fields(resolve(tokens)), " "))
			fenced = fenced || strings.Contains(s, "```")
		}
		plain, marked = append(plain, p), append(marked, m)
	}
	total := 2 * (len(wide) - 1)
	for _, w := range wide {
		total += w
	}
	if total > tableWidth || fenced {
		return rowLists(marked)
	}
	var out []string
	for i, row := range plain {
		out = append(out, align(row, wide, t.Alignments))
		if i == 0 {
			rule := make([]string, len(wide))
			for j, w := range wide {
				rule[j] = strings.Repeat("-", w)
			}
			out = append(out, align(rule, wide, nil))
		}
	}
	return codeBlock(strings.Join(out, "\n"))
}

// align lays out one row of a table.
func align(row []string, wide []int, how []extast.Alignment) string {
	var out strings.Builder
	for i, s := range row {
		if i > 0 {
			out.WriteString("  ")
		}
		pad := strings.Repeat(" ", wide[i]-uniseg.StringWidth(s))
		if i < len(how) && how[i] == extast.AlignRight {
			s = pad + s
		} else {
			s += pad
		}
		out.WriteString(s)
	}
	return strings.TrimRight(out.String(), " ")
}

// rowLists writes each row of a table under its first cell, the other cells with their column's name.
func rowLists(rows [][]string) string {
	head := rows[0]
	if len(rows) == 1 {
		return strings.Join(head, ", ")
	}
	var out []string
	for _, row := range rows[1:] {
		var lines []string
		for i, cell := range row {
			switch {
			case cell == "":
			case i == 0 && len(row) > 1:
				lines = append(lines, resolve([]token{{open: '*'}, {text: strings.Trim(cell, "*")}, {end: '*'}}))
			case i < len(head) && head[i] != "" && len(row) > 1:
				lines = append(lines, "- "+head[i]+": "+cell)
			default:
				lines = append(lines, "- "+cell)
			}
		}
		if len(lines) > 0 {
			out = append(out, strings.Join(lines, "\n"))
		}
	}
	sep := "\n\n"
	if len(head) == 1 {
		out = append([]string{head[0]}, out...)
		sep = "\n"
	}
	return strings.Join(out, sep)
}

// token is a piece of a line on its way: a text, or the beginning or end of a mark.
type token struct {
	text      string
	code      bool   // text is code
	open, end byte   // '*', '_' or '~'
	literal   string // the mark as it was written, for where it must stay
}

// lineBreak is the HTML that models write for a new line.
var lineBreak = regexp.MustCompile(`(?i)<br\s*/?>`)

// dunder is a name such as Python's __init__, between the underscores.
var dunder = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// inlines are the tokens of what is within n.
func (r *renderer) inlines(n ast.Node) []token {
	var out []token
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		out = append(out, r.inline(c)...)
	}
	return out
}

func (r *renderer) inline(n ast.Node) []token {
	switch n := n.(type) {
	case *ast.Text:
		s := string(n.Segment.Value(r.src))
		if !n.IsRaw() {
			s = unescape(s)
		}
		if n.SoftLineBreak() || n.HardLineBreak() {
			s += "\n"
		}
		return []token{{text: s}}
	case *ast.String:
		return []token{{text: string(n.Value)}}
	case *ast.CodeSpan:
		var code strings.Builder
		for c := n.FirstChild(); c != nil; c = c.NextSibling() {
			if t, ok := c.(*ast.Text); ok {
				code.Write(t.Segment.Value(r.src))
			}
		}
		return []token{{text: strings.ReplaceAll(code.String(), "\n", " "), code: true}}
	case *ast.Emphasis:
		return r.emphasis(n)
	case *extast.Strikethrough:
		return around(token{open: '~', literal: "~~"}, r.inlines(n))
	case *ast.Link:
		return r.link(r.inlines(n), string(n.Destination))
	case *ast.Image:
		return r.link(r.inlines(n), string(n.Destination))
	case *ast.AutoLink:
		return []token{{text: string(n.Label(r.src))}}
	case *ast.RawHTML:
		s := string(n.Segments.Value(r.src))
		return []token{{text: lineBreak.ReplaceAllString(s, "\n")}}
	}
	return r.inlines(n)
}

// around puts a mark around tokens.
func around(mark token, inner []token) []token {
	out := append([]token{mark}, inner...)
	return append(out, token{end: mark.open, literal: mark.literal})
}

func (r *renderer) emphasis(n *ast.Emphasis) []token {
	inner := r.inlines(n)
	written := "*"
	if t, ok := n.FirstChild().(*ast.Text); ok && t.Segment.Start > 0 && r.src[t.Segment.Start-1] == '_' {
		written = "_"
		if n.Level == 2 && n.ChildCount() == 1 && dunder.Match(t.Segment.Value(r.src)) {
			return []token{{text: "__"}, inner[0], {text: "__"}}
		}
	}
	if n.Level == 2 {
		return around(token{open: '*', literal: written + written}, inner)
	}
	return around(token{open: '_', literal: written}, inner)
}

// link names where it goes, once.
func (r *renderer) link(words []token, to string) []token {
	name := strings.TrimSpace(plainText(words))
	to = strings.TrimPrefix(unescape(to), "mailto:") // WhatsApp knows an address by itself
	switch {
	case to == "" || strings.HasPrefix(to, "#"):
		return words // WhatsApp has no place within a message to go to
	case name == "" || name == to || name == bare(to):
		return []token{{text: to}}
	}
	return append(words, token{text: " (" + to + ")"})
}

// bare is a URL as people write it.
func bare(to string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(to, scheme); ok {
			return strings.TrimSuffix(rest, "/")
		}
	}
	return to
}

// unescape resolves Markdown's backslashes and HTML's entities.
func unescape(s string) string {
	if !strings.ContainsAny(s, `\&`) {
		return s
	}
	var out strings.Builder
	entities := func(s string) {
		out.Write(util.ResolveEntityNames(util.ResolveNumericReferences([]byte(s))))
	}
	start := 0
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '\\' && util.IsPunct(s[i+1]) {
			entities(s[start:i])
			out.WriteByte(s[i+1])
			i++
			start = i + 1
		}
	}
	entities(s[start:])
	return clean(out.String())
}

// plainText is the text of tokens without marks.
func plainText(tokens []token) string {
	var out strings.Builder
	for _, t := range tokens {
		out.WriteString(t.text)
	}
	return out.String()
}

// resolve writes tokens as WhatsApp's markup: it ends marks where a line does, keeps space out of them, and
// leaves out those that WhatsApp would not take.
func resolve(tokens []token) string {
	var out []string
	var line []token
	var open []token // the marks that are open, the innermost last
	for _, t := range tokens {
		switch {
		case t.open != 0:
			open = append(open, t)
			line = append(line, t)
		case t.end != 0:
			open = open[:len(open)-1]
			line = append(line, t)
		case t.code:
			line = append(line, t)
		default:
			for {
				before, after, more := strings.Cut(t.text, "\n")
				line = append(line, token{text: before})
				if !more {
					break
				}
				for i := len(open) - 1; i >= 0; i-- {
					line = append(line, token{end: open[i].open, literal: open[i].literal})
				}
				out = append(out, resolveLine(line))
				line = append([]token(nil), open...)
				t.text = after
			}
		}
	}
	out = append(out, resolveLine(line))
	return strings.Join(out, "\n")
}

// resolveLine writes the tokens of one line, in which every mark is closed.
func resolveLine(line []token) string {
	drop := make([]bool, len(line))
	var stack []int
	for i, t := range line {
		switch {
		case t.open != 0:
			stack = append(stack, i)
		case t.end != 0:
			at := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			settle(line, drop, stack, at, i)
		}
	}
	var out strings.Builder
	for i, t := range line {
		switch {
		case drop[i]:
			out.WriteString(t.text)
		case t.open != 0:
			out.WriteByte(t.open)
		case t.end != 0:
			out.WriteByte(t.end)
		case t.code:
			out.WriteString(codeSpan(t.text))
		default:
			out.WriteString(t.text)
		}
	}
	return strings.TrimRight(out.String(), " \t")
}

// settle decides on the mark from token at to token end, within the marks of stack.
func settle(line []token, drop []bool, stack []int, at, end int) {
	drop[at], drop[end] = true, true
	for _, i := range stack {
		if line[i].open == line[at].open {
			return // the same mark is open already
		}
	}
	inner := line[at+1 : end]
	if !trim(inner) {
		return
	}
	before, after := lastRune(line[:at]), firstRune(line[end+1:])
	switch {
	case !wordy(before) && !wordy(after):
		drop[at], drop[end] = false, false
	case isDigit(before) || isDigit(after), len(line[at].literal) == 1 && before < utf8.RuneSelf && after < utf8.RuneSelf:
		// 2*3*4 is no emphasis.
		line[at].text, line[end].text = line[at].literal, line[end].literal
	}
}

// trim takes away the space at both ends, beside which WhatsApp takes no mark: it is there only where a
// line was broken. It returns false where nothing is left.
func trim(inner []token) bool {
	for i := range inner {
		if !inner[i].code {
			inner[i].text = strings.TrimLeftFunc(inner[i].text, unicode.IsSpace)
		}
		if inner[i].text != "" {
			for j := len(inner) - 1; ; j-- {
				if !inner[j].code {
					inner[j].text = strings.TrimRightFunc(inner[j].text, unicode.IsSpace)
				}
				if inner[j].text != "" {
					return true
				}
			}
		}
	}
	return false
}

// lastRune and firstRune are the neighbours of a mark, 0 where it has none.
func lastRune(tokens []token) rune {
	for _, t := range slices.Backward(tokens) {
		if t.text != "" {
			c, _ := utf8.DecodeLastRuneInString(t.text)
			return c
		}
	}
	return 0
}

func firstRune(tokens []token) rune {
	for _, t := range tokens {
		if t.text != "" {
			c, _ := utf8.DecodeRuneInString(t.text)
			return c
		}
	}
	return 0
}

func wordy(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }

func isDigit(c rune) bool { return '0' <= c && c <= '9' }

// codeSpan is code within a line. WhatsApp's single backticks hold no backtick.
func codeSpan(code string) string {
	switch {
	case strings.Contains(code, "```"):
		return code
	case strings.Contains(code, "`"):
		return "```" + code + "```"
	}
	return "`" + code + "`"
}

// strikethrough parses ~~text~~. A single tilde, which GitHub takes too, means "about" far more often.
type strikethrough struct{}

func (strikethrough) Trigger() []byte { return []byte{'~'} }

func (s strikethrough) Parse(_ ast.Node, block text.Reader, pc parser.Context) ast.Node {
	before := block.PrecendingCharacter()
	line, segment := block.PeekLine()
	d := parser.ScanDelimiter(line, before, 2, s)
	if d == nil || d.OriginalLength != 2 || before == '~' {
		return nil
	}
	d.Segment = segment.WithStop(segment.Start + 2)
	block.Advance(2)
	pc.PushDelimiter(d)
	return d
}

// IsDelimiter, CanOpenCloser and OnMatch make strikethrough its own parser.DelimiterProcessor.
func (strikethrough) IsDelimiter(b byte) bool { return b == '~' }

func (strikethrough) CanOpenCloser(opener, closer *parser.Delimiter) bool {
	return opener.Char == closer.Char
}

func (strikethrough) OnMatch(int) ast.Node { return extast.NewStrikethrough() }
