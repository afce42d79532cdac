-- In which states a task has ended: those of `names.ENDED`.
local ENDED = { succeeded = true, failed = true, cancelled = true, expired = true, skipped = true, folded = true }
