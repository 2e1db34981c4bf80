package words

// Why there is no answer.
const (
	NotSetUp    Key = "not_set_up"
	UsedUp      Key = "used_up"
	TooMany     Key = "too_many"
	Unavailable Key = "unavailable"
	TookTooLong Key = "took_too_long"
	NotUsable   Key = "not_usable"
	Filtered    Key = "filtered"
	TooLong     Key = "too_long"
	GaveUp      Key = "gave_up"
	WasAway     Key = "was_away"
)

// Processing is said while an answer is made.
const Processing Key = "processing"

// How an answer ends that is not whole.
const (
	GoesOn       Key = "goes_on"
	NoTimeForAll Key = "no_time_for_all"
)

// How to talk to the bot: in the own chat, where everything is answered, where the prefix is needed; to a model of a
// prefix of its own; and the lines for such models below the others.
const (
	HowToOwn    Key = "how_to_own"
	HowToAlways Key = "how_to_always"
	HowToPrefix Key = "how_to_prefix"
	HowToAsk    Key = "how_to_ask"
	HowToDraw   Key = "how_to_draw"
	AlsoAsks    Key = "also_asks"
	AlsoDraws   Key = "also_draws"
	ToAsk       Key = "to_ask"
	ToDraw      Key = "to_draw"
)
