package media

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"
)

const (
	// MostText bounds the text of any document, in bytes, and mostPicture a picture that was shrunk.
	MostText    = 64 << 10
	mostPicture = 8 << 20
	// patience and readingMemory bound what reading one file may take.
	patience      = 20 * time.Second
	readingMemory = 512 << 20
	// abandoned is after what time a process that reads ends by itself: whoever asked has given up long before, or was killed.
	abandoned = 2 * time.Minute
)

// Reader reads documents and pictures. The zero Reader reads plain texts only.
type Reader struct {
	// Command is a command, with its arguments, that with one more runs Read of it on its standard input and output and exits
	// with 0, or where that returns an error with another code. Parsers can be made to take all memory, hours, or the last byte of the
	// stack, and nothing in the same process survives that or keeps it from them.
	Command []string
	// Path is the file that is run as Command; empty for the one that it names.
	Path string
	// Patience bounds the time that reading one file may take; 20 seconds if zero.
	Patience time.Duration
}

// What Read reads.
const (
	document = "document"
	picture  = "picture"
)

// reading lets two files be read at a time: each may take readingMemory, and many chats are answered at once. One chat has one at
// a time, and so keeps nobody else from theirs.
var reading = make(chan struct{}, 2)

// Text is the text of a document, at most MostText bytes of it: a PDF, a Word document (docx), or a text in any common
// encoding. It is empty where there is none, as in pictures of pages. What a document is, its bytes say.
func (r Reader) Text(ctx context.Context, data []byte) (string, error) {
	var text string
	var err error
	switch archive := bytes.HasPrefix(data, []byte("PK\x03\x04")); {
	case bytes.HasPrefix(data, []byte(pdfMark)), archive && bytes.Contains(data, []byte(wordPart)):
		var read []byte
		read, err = r.apart(ctx, document, data, MostText)
		text = strings.ToValidUTF8(string(read), "")
	case archive:
		err = ErrUnsupported
	default:
		text, err = plainText(data)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(cut(text)), nil
}

// Shrink makes a JPEG of a picture (JPEG, PNG, WebP or GIF), upright and with no side longer than LongestSide. Of one
// that moves it is the first picture; what is transparent is white. What a camera has written beside the picture, such as where it was
// taken, does not stay.
func (r Reader) Shrink(ctx context.Context, data []byte) ([]byte, error) {
	small, err := r.apart(ctx, picture, data, mostPicture)
	if err == nil && len(small) == 0 {
		err = ErrUnsupported
	}
	return small, err
}

// apart has another process Read what. It returns at most so many bytes of what that wrote.
func (r Reader) apart(ctx context.Context, what string, data []byte, most int) ([]byte, error) {
	if len(r.Command) == 0 {
		return nil, ErrUnsupported
	}
	select {
	case reading <- struct{}{}:
		defer func() { <-reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	inTime, cancel := context.WithTimeout(ctx, cmp.Or(r.Patience, patience))
	defer cancel()
	cmd := exec.CommandContext(inTime, cmp.Or(r.Path, r.Command[0]))
	cmd.Args = append(r.Command[:len(r.Command):len(r.Command)], what)
	cmd.Env = []string{} // it needs none of our secrets
	cmd.Stdin = bytes.NewReader(data)
	out := &limited{most: most}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case inTime.Err() != nil, errors.As(err, &exit):
		return nil, ErrBroken
	case err != nil:
		return nil, fmt.Errorf("run the reader of files: %w", err)
	}
	return out.Bytes(), nil
}

// limited keeps the first bytes that are written to it.
type limited struct {
	bytes.Buffer
	most int
}

func (l *limited) Write(b []byte) (int, error) {
	l.Buffer.Write(b[:min(len(b), l.most-l.Len())])
	return len(b), nil
}

// Read reads a document from in and writes its text to out, as far as MostText goes, or a picture, which it writes as Shrink returns it; where it
// is no picture, nothing. It limits the memory and the life of the whole process, and may crash it: it is for a process of its own.
func Read(what string, in io.Reader, out io.Writer) (err error) {
	limitMemory(readingMemory)
	time.AfterFunc(abandoned, func() { os.Exit(1) })
	debug.SetMaxStack(64 << 20)
	defer func() {
		if p := recover(); p != nil {
			err = ErrBroken
		}
	}()
	data, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read a %s: %w", what, err)
	}
	var made []byte
	switch {
	case what == picture:
		made, err = shrink(data)
		if errors.Is(err, ErrUnsupported) {
			return nil
		}
	case bytes.HasPrefix(data, []byte(pdfMark)):
		made, err = pdfText(data)
	default:
		made, err = wordText(data)
	}
	if err != nil {
		return err
	}
	if _, err := out.Write(made); err != nil {
		return fmt.Errorf("write what was read of a %s: %w", what, err)
	}
	return nil
}
