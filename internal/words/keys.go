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

// Why something that was sent is not opened.
const (
	CannotSee    Key = "cannot_see"
	CannotHear   Key = "cannot_hear"
	NotThatKind  Key = "not_that_kind"
	FileTooLarge Key = "file_too_large"
	SoundTooLong Key = "sound_too_long"
	FileBroken   Key = "file_broken"
	MediaGone    Key = "media_gone"
	NoText       Key = "no_text"
	TooMuchMedia Key = "too_much_media"
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

// What the commands do, a line each for help.
const (
	AboutHelp         Key = "about_help"
	AboutReset        Key = "about_reset"
	AboutModel        Key = "about_model"
	AboutInstructions Key = "about_instructions"
	AboutPause        Key = "about_pause"
	AboutResume       Key = "about_resume"
	AboutVoice        Key = "about_voice"
	AboutRetry        Key = "about_retry"
	AboutSummary      Key = "about_summary"
	AboutForget       Key = "about_forget"
	AboutAllow        Key = "about_allow"
	AboutBlock        Key = "about_block"
	AboutUsage        Key = "about_usage"
	AboutStatus       Key = "about_status"
)

// What the commands for a chat answer.
const (
	ResetDone           Key = "reset_done"
	ModelIs             Key = "model_is"
	ModelSet            Key = "model_set"
	ModelUnknown        Key = "model_unknown"
	ModelChoices        Key = "model_choices"
	InstructionsAre     Key = "instructions_are"
	InstructionsNone    Key = "instructions_none"
	InstructionsSet     Key = "instructions_set"
	InstructionsCleared Key = "instructions_cleared"
	InstructionsTooLong Key = "instructions_too_long"
	Paused              Key = "paused"
	Resumed             Key = "resumed"
	VoiceIsOn           Key = "voice_is_on"
	VoiceIsOff          Key = "voice_is_off"
	VoiceIsAuto         Key = "voice_is_auto"
	VoiceNone           Key = "voice_none"
	NothingToRetry      Key = "nothing_to_retry"
	NothingToSumUp      Key = "nothing_to_sum_up"
	Forgotten           Key = "forgotten"
)

// What the commands for admins answer.
const (
	LetIn           Key = "let_in"
	ShutOut         Key = "shut_out"
	StaysBlocked    Key = "stays_blocked"
	IsAdmin         Key = "is_admin"
	Whom            Key = "whom"
	AreLetIn        Key = "are_let_in"
	AreShutOut      Key = "are_shut_out"
	StatusOnline    Key = "status_online"
	StatusStore     Key = "status_store"
	StatusFiles     Key = "status_files"
	StatusUsual     Key = "status_usual"
	StatusBroken    Key = "status_broken"
	StatusStrangers Key = "status_strangers"
)

// What the account's owner is told of those who are not answered.
const (
	Stranger      Key = "stranger"
	StrangeGroup  Key = "strange_group"
	MoreStrangers Key = "more_strangers"
)

// What may be spent: that it is used up, by whom; what the owner is told; and what !usage says.
const (
	Flooded            Key = "flooded"
	BudgetPerson       Key = "budget_person"
	BudgetChat         Key = "budget_chat"
	BudgetBot          Key = "budget_bot"
	BudgetWarning      Key = "budget_warning"
	BudgetWarningWhose Key = "budget_warning_whose"
	UsageYou           Key = "usage_you"
	UsageChat          Key = "usage_chat"
	UsageBot           Key = "usage_bot"
	UsedOf             Key = "used_of"
	TokensOf           Key = "tokens_of"
	AboutTokens        Key = "about_tokens"
	NoUsage            Key = "no_usage"
)
