package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
)

// API is the protocol that a server draws by.
type API string

// The protocols. Chat, sound and speech are always OpenAI's.
const (
	OpenAI API = ""
	// Stability is that of api.stability.ai, version 2 beta: BaseURL has the host alone, Model is "core" or alike.
	Stability API = "stability"
	// HuggingFace is that of Hugging Face's inference service: BaseURL is what stands before /models/.
	HuggingFace API = "huggingface"
)

// Image draws what the description says; the client's model must be one for that, such as gpt-image-1. size is "1024x1024" or
// alike, empty for the model's own; only OpenAI's protocol has it. The errors are those of Complete.
func (c *Client) Image(ctx context.Context, description, size string) (Media, error) {
	return call(ctx, c, "image", []string{description}, whole, func(ctx context.Context, t *try) (Media, error) {
		var data []byte
		var err error
		switch c.opts.API {
		case Stability:
			data, err = c.stability(ctx, t, description)
		case HuggingFace:
			data, err = c.huggingFace(ctx, t, description)
		default:
			data, err = c.openAIImage(ctx, t, description, size)
		}
		if err != nil {
			return Media{}, err
		}
		kind := http.DetectContentType(data)
		if !strings.HasPrefix(kind, "image/") {
			return Media{}, &Error{Kind: BadAnswer, Err: errors.New("the answer is no picture of a known format")}
		}
		return Media{MIME: kind, Data: data}, nil
	})
}

func (c *Client) stability(ctx context.Context, t *try, description string) ([]byte, error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	// A buffer takes all.
	_ = w.WriteField("prompt", description)
	_ = w.WriteField("output_format", "jpeg")
	_ = w.Close()
	return c.post(ctx, t, "/v2beta/stable-image/generate/"+c.opts.Model, w.FormDataContentType(), &form)
}

func (c *Client) huggingFace(ctx context.Context, t *try, description string) ([]byte, error) {
	body, err := json.Marshal(map[string]string{"inputs": description})
	if err != nil {
		return nil, err
	}
	return c.post(ctx, t, "/models/"+c.opts.Model, "application/json", bytes.NewReader(body))
}

// post asks for a picture that comes as it is.
func (c *Client) post(ctx context.Context, t *try, path, kind string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.opts.BaseURL+path, body)
	if err != nil {
		return nil, &Error{Kind: BadRequest, Err: errors.New("the base URL and the model make no address")}
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Accept", "image/*")
	if c.opts.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.opts.Key)
	}
	resp, err := t.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	// Stability blurs what its filter does not like, and says so.
	if strings.EqualFold(resp.Header.Get("Finish-Reason"), "CONTENT_FILTERED") {
		return nil, &Error{Kind: Filtered, Err: errors.New("the provider's content filter blurred the picture")}
	}
	return io.ReadAll(resp.Body)
}
