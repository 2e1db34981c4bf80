package media

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wlynxg/chardet"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode/utf32"
)

// cut is the begin of a text, up to MostText.
func cut(text string) string {
	if len(text) <= MostText {
		return text
	}
	return strings.ToValidUTF8(text[:MostText], "")
}

// enough is how much of a text in another encoding is looked at, in bytes: no encoding takes more for a character than four.
const enough = 4 * MostText

// plainText decodes a text. What has characters that no text has is none.
func plainText(data []byte) (string, error) {
	whole := data
	data = data[:min(len(data), enough)]
	text := ""
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		text = strings.ToValidUTF8(string(data[3:]), "\ufffd")
	case bytes.HasPrefix(data, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(data, []byte("\x00\x00\xfe\xff")):
		decoded, err := utf32.UTF32(utf32.LittleEndian, utf32.UseBOM).NewDecoder().Bytes(data)
		if err != nil {
			return "", ErrUnsupported
		}
		text = string(decoded)
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		text = decoded(data[2:], "utf-16le")
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		text = decoded(data[2:], "utf-16be")
	case utf8.Valid(data), len(whole) > len(data) && utf8.Valid(data[:lastRune(data)]):
		text = strings.ToValidUTF8(string(data), "")
	case !bytes.Contains(data, []byte{0}):
		text = guessed(data)
	case wide(data, 1):
		text = decoded(data, "utf-16le")
	case wide(data, 0):
		text = decoded(data, "utf-16be")
	default:
		return "", ErrUnsupported
	}
	if !readable(text) {
		return "", ErrUnsupported
	}
	return strings.ReplaceAll(text, "\r\n", "\n"), nil
}

// lastRune is where the last character begins, which may have been cut.
func lastRune(data []byte) int {
	for i := len(data) - 1; i >= max(0, len(data)-utf8.UTFMax); i-- {
		if utf8.RuneStart(data[i]) {
			return i
		}
	}
	return len(data)
}

// wide reports whether most of the bytes at even places, or with 1 at odd ones, are zero, as in UTF-16 of European texts.
func wide(data []byte, odd int) bool {
	zeros := 0
	for i := odd; i < len(data); i += 2 {
		if data[i] == 0 {
			zeros++
		}
	}
	return len(data)%2 == 0 && zeros > len(data)/4
}

// guessed decodes a text whose encoding is found by its letters. Where that finds none it is western European.
func guessed(data []byte) string {
	name := chardet.Detect(data[:min(len(data), 16<<10)]).Encoding
	if alias, ok := map[string]string{"CP949": "euc-kr", "CP932": "shift_jis", "MacCyrillic": "x-mac-cyrillic", "MacRoman": "macintosh", "GB2312": "gb18030", "ISO-8859-1": "windows-1252"}[name]; ok {
		name = alias
	}
	if text := decoded(data, name); text != "" && !strings.ContainsRune(text, utf8.RuneError) {
		return text
	}
	return decoded(data, "windows-1252")
}

// decoded decodes a text in a named encoding, empty if there is none of the name.
func decoded(data []byte, name string) string {
	encoding, err := htmlindex.Get(name)
	if err != nil {
		return ""
	}
	text, err := encoding.NewDecoder().Bytes(data)
	if err != nil {
		return ""
	}
	return string(text)
}

// readable reports whether a text has few control characters and none that texts never have.
func readable(text string) bool {
	strange, all := 0, 0
	for _, r := range text {
		all++
		switch {
		case r == 0:
			return false
		case r == '\n' || r == '\r' || r == '\t' || r == '\f':
		case unicode.IsControl(r) || r == utf8.RuneError:
			strange++
		}
	}
	return strange <= all/50
}

// mostXML bounds the text part of a Word document, in bytes: it may be packed a thousand times smaller. mostDepth bounds the tags within
// tags, which the parser keeps.
const (
	mostXML   = 16 << 20
	mostDepth = 500
)

// wordPart is the text part of a Word document.
const wordPart = "word/document.xml"

// wordText is the text of a Word document (ISO/IEC 29500, WordprocessingML): its paragraphs, a line each.
func wordText(data []byte) ([]byte, error) {
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, ErrBroken
	}
	part, err := archive.Open(wordPart)
	if err != nil {
		return nil, ErrBroken
	}
	defer part.Close()
	parser := xml.NewDecoder(io.LimitReader(part, mostXML))
	var out bytes.Buffer
	inText, depth := false, 0
	for out.Len() < MostText {
		token, err := parser.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, ErrBroken
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth++; depth > mostDepth {
				return nil, ErrBroken
			}
			switch t.Name.Local {
			case "t":
				inText = true
			case "tab":
				out.WriteByte('\t')
			case "br", "cr":
				out.WriteByte('\n')
			}
		case xml.EndElement:
			depth--
			switch t.Name.Local {
			case "t":
				inText = false
			case "p":
				out.WriteByte('\n')
			case "tc":
				out.WriteByte('\t')
			}
		case xml.CharData:
			if inText {
				out.Write(t)
			}
		}
	}
	return out.Bytes(), nil
}
