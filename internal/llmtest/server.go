// Package llmtest is a model API for tests and demonstrations, as httptest is for HTTP: a real
// HTTP server on 127.0.0.1 that speaks the part of OpenAI's API that bots use, answers the same
// question with the same answer, keeps what it was asked, and fails on command.
//
// It knows /v1/chat/completions (streamed and whole), /v1/models, /v1/images/generations,
// /v1/audio/transcriptions and /v1/audio/speech, and of Stability's and Hugging Face's APIs, at the same port,
// /v2beta/stable-image/generate/MODEL and /models/OWNER/MODEL. It leaves out tools, several choices, log
// probabilities and embeddings; it counts words where a real server counts tokens; and it checks of
// a request only what a real server would refuse for certain. Nothing waits for a time except what
// a fault asks for, and a hanging answer ends with its client or with the server.
package llmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server is a model API. The zero value is ready to Start; set the exported fields before that.
type Server struct {
	// Answer gives the text that answers a chat request; nil means Echo. It may be called by several
	// goroutines at once.
	Answer func(Request) string
	// Tokens is how many tokens the prompt of a chat request is said to have; nil counts its words.
	Tokens func(Request) int
	// Whole has a streamed answer sent in one piece; otherwise each event is sent by itself.
	Whole bool
	// Transcript gives the text heard in the audio of a request; nil means Hear.
	Transcript func(Request) string
	// Key is what requests must bear in their Authorization header; empty accepts any and none.
	Key string
	// Models are the names that the server knows and lists; empty accepts any name.
	Models []string

	door   *door
	http   *http.Server
	served chan struct{} // closed when http.Serve has returned

	mu       sync.Mutex
	fault    Fault
	requests []Request
	changed  chan struct{} // closed and replaced when requests grows

	quit     context.Context // ends with the server
	stop     context.CancelFunc
	handlers sync.WaitGroup
}

// TB is the part of testing.TB that New needs, so that programs do not link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// New starts a server that is closed when the test ends.
func New(t TB) *Server {
	t.Helper()
	s := new(Server)
	if err := s.Start(); err != nil {
		t.Fatalf("start the model server: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start begins to listen, on a free port of 127.0.0.1. It is called once.
func (s *Server) Start() error {
	d, err := newDoor()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.changed = make(chan struct{})
	s.quit, s.stop = context.WithCancel(context.Background())
	s.door, s.http, s.served = d, &http.Server{Handler: s.mux(), ReadHeaderTimeout: time.Minute}, make(chan struct{})
	go func() {
		defer close(s.served)
		_ = s.http.Serve(d) // always an error; that of a listener closed by Close
	}()
	return nil
}

// Close ends the server and every answer in flight, and returns when all of them have ended.
func (s *Server) Close() {
	s.mu.Lock()
	s.stop() // from here on no handler begins, so that Wait can count them
	s.mu.Unlock()
	_ = s.http.Close()
	<-s.served
	s.handlers.Wait()
}

// Down cuts every connection and lets no new one live, until Up. What was asked stays known.
func (s *Server) Down() { s.door.set(true) }

// Up ends Down, on the port of before.
func (s *Server) Up() error {
	if !s.door.set(false) {
		return errors.New("the server is up already")
	}
	return nil
}

// URL is the base URL for a client: http://127.0.0.1:port/v1. It stays the same over Down and Up.
func (s *Server) URL() string { return "http://" + s.door.Addr().String() + "/v1" }

// Fail makes requests fail from now on, as f says. Fail(Fault{}) heals the server.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// take is the fault for one request to a model, counted.
func (s *Server) take(model string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fault
	if f.Model != "" && f.Model != model {
		return Fault{}
	}
	if f.Times > 0 {
		s.fault.Times--
		if s.fault.Times == 0 {
			s.fault = Fault{}
		}
	}
	return f
}

// Requests are the requests that came in so far, in that order, the failed ones too.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// WaitRequest waits until n requests have come in (n from 1) and returns the nth.
func (s *Server) WaitRequest(ctx context.Context, n int) (Request, error) {
	for {
		s.mu.Lock()
		requests, changed := s.requests, s.changed
		s.mu.Unlock()
		if len(requests) >= n {
			return requests[n-1], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Request{}, fmt.Errorf("wait for request %d, after %d: %w", n, len(requests), context.Cause(ctx))
		}
	}
}

// keep notes a request that came in.
func (s *Server) keep(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) mux() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, read func(*http.Request) (Request, error), answer func(*reply, Request)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			open := s.quit.Err() == nil
			if open {
				s.handlers.Add(1)
			}
			s.mu.Unlock()
			if !open {
				panic(http.ErrAbortHandler)
			}
			defer s.handlers.Done()
			s.serve(w, r, read, answer)
		})
	}
	handle("POST /v1/chat/completions", readChat, s.chat)
	handle("POST /v1/images/generations", readInput, s.picture)
	handle("POST /v1/audio/transcriptions", readAudio, s.transcribe)
	handle("POST /v1/audio/speech", readInput, s.speak)
	handle("POST /v2beta/stable-image/generate/{model}", readForm, s.bare)
	handle("POST /models/{owner}/{model}", readInputs, s.bare)
	handle("GET /v1/models", readNothing, s.models)
	return mux
}

// serve does what all requests have in common: it reads, keeps, fails or lets answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, read func(*http.Request) (Request, error), answer func(*reply, Request)) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.quit, cancel)()

	req, err := read(r)
	out := &reply{w: w, ctx: ctx, fault: s.take(req.Model), whole: s.Whole}
	if err != nil {
		out.fail(http.StatusBadRequest, "invalid_request_error", "", err.Error())
		return
	}
	req.Path = r.URL.Path
	req.Header = r.Header.Clone()
	s.keep(req)
	switch {
	case s.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.Key:
		out.wrongKey(r)
	case out.broken(r, req):
	case req.Model == "" && r.Method == http.MethodPost:
		out.fail(http.StatusBadRequest, "invalid_request_error", "", "you must provide a model parameter")
	case req.Model != "" && len(s.Models) > 0 && !slices.Contains(s.Models, req.Model):
		out.fail(http.StatusNotFound, "invalid_request_error", "model_not_found",
			fmt.Sprintf("The model `%s` does not exist or you do not have access to it.", req.Model))
	default:
		answer(out, req)
	}
}

// Request is what a client asked.
type Request struct {
	// Path is the URL's path, such as /v1/chat/completions.
	Path   string
	Header http.Header
	// Model is the model asked for; empty for /v1/models.
	Model string

	// Messages, Stream, Usage, MaxTokens and Temperature are those of a chat request. Usage is
	// set where the client asked for a usage chunk at the end of the stream.
	Messages    []Message
	Stream      bool
	Usage       bool
	MaxTokens   int
	Temperature float64

	// Input is the text to speak, or the description of an image.
	Input string
	// Voice and Format are those of a request for speech, Size that of one for an image.
	Voice, Format, Size string
	// Audio and File are what to transcribe and its name, Language the language it is said to be in.
	Audio          []byte
	File, Language string
}

// LastUser is the text of the last message that a user wrote, or empty.
func (r Request) LastUser() string {
	for _, m := range slices.Backward(r.Messages) {
		if m.Role == "user" {
			return m.Text
		}
	}
	return ""
}

// Message is one message of a chat request.
type Message struct {
	Role, Name string
	// Text is the content, or the text parts of it, a line each.
	Text string
	// Images are the URLs of the image parts, most often data URLs.
	Images []string
}

// Echo answers "You said: " and the last user message; it counts the images where there are any.
func Echo(r Request) string {
	text := "You said: " + r.LastUser()
	if len(r.Messages) > 0 {
		if n := len(r.Messages[len(r.Messages)-1].Images); n > 0 {
			text += fmt.Sprintf(" (images: %d)", n)
		}
	}
	return text
}

func readNothing(*http.Request) (Request, error) { return Request{}, nil }

// maxBody bounds what a client may send: above what real servers take in one request.
const maxBody = 64 << 20

func readChat(r *http.Request) (Request, error) {
	var body struct {
		Model    string
		Messages []struct {
			Role, Name string
			Content    json.RawMessage
		}
		Stream        bool
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
		MaxTokens           int `json:"max_tokens"`
		MaxCompletionTokens int `json:"max_completion_tokens"`
		Temperature         float64
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(&body); err != nil {
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	req := Request{
		Model: body.Model, Stream: body.Stream, Usage: body.StreamOptions.IncludeUsage,
		MaxTokens: max(body.MaxTokens, body.MaxCompletionTokens), Temperature: body.Temperature,
	}
	if len(body.Messages) == 0 {
		return Request{}, errors.New("[] is too short - 'messages'")
	}
	for i, m := range body.Messages {
		msg := Message{Role: m.Role, Name: m.Name}
		if !slices.Contains([]string{"system", "developer", "user", "assistant", "tool"}, m.Role) {
			return Request{}, fmt.Errorf("invalid value for 'messages[%d].role'", i)
		}
		if err := msg.read(m.Content); err != nil {
			return Request{}, fmt.Errorf("invalid value for 'messages[%d].content': %w", i, err)
		}
		req.Messages = append(req.Messages, msg)
	}
	return req, nil
}

// read takes a message's content: a text, or a list of parts.
func (m *Message) read(content json.RawMessage) error {
	if err := json.Unmarshal(content, &m.Text); err == nil {
		return nil
	}
	var parts []struct {
		Type, Text string
		ImageURL   struct{ URL string } `json:"image_url"`
	}
	if err := json.Unmarshal(content, &parts); err != nil {
		return errors.New("neither a text nor a list of parts")
	}
	var texts []string
	for _, p := range parts {
		switch p.Type {
		case "text":
			texts = append(texts, p.Text)
		case "image_url":
			m.Images = append(m.Images, p.ImageURL.URL)
		default:
			return fmt.Errorf("unknown part type %q", p.Type)
		}
	}
	m.Text = strings.Join(texts, "\n")
	return nil
}
