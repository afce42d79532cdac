-- What events that cancel are about, in the step that hands over: tasks that may be cancelled are put into an index by their
-- value, and of each event that cancels it is remembered for a day what it cancels, so that a task which was published
-- before it and is handed over after it never starts.
-- Index, per subscription (ZSET, all of score 0): DIGEST PUBLISHED TASK, PUBLISHED a moment of 16 digits that sorts as text.
-- Per subscription and value (HASH `canceller`): `before`, the moment of the newest such event; `by`, what ends a task (JSON).
-- An event that cancels is told to the other shards, too: once, in the same step (`outboxes`).
--#include _write.lua
--#include _outbox.lua
local REMEMBERED = 86400000  -- ms

-- mark = a record of `marks` as handoff.lua says
local function mark_cancels(mark, now)
  local again = false
  if mark.is_canceller then
    if (write('HGET', mark.canceller, 'before') or '') < mark.published then
      redis.call('HSET', mark.canceller, 'before', mark.published, 'by', mark.by)
    end
    redis.call('PEXPIRE', mark.canceller, REMEMBERED)
    for _, outbox in ipairs(mark.outboxes) do
      lay_out(outbox, mark.changed, 'w', mark.work, 'by', mark.by, 'at', mark.published)
    end
    again = true
  else
    local member = mark.digest .. ' ' .. mark.published .. ' ' .. mark.id
    local row = redis.call('HMGET', mark.task, 'cancellable', 'state')
    if row[2] == 'skipped' then return end
    local before = row[1]
    write('ZADD', mark.cancellable, 0, member)
    redis.call('HSET', mark.task, 'cancellable', before and before .. '\n' .. member or member)
    local said = write('HMGET', mark.canceller, 'before', 'by')
    if said[1] and said[2] and said[1] > mark.published then
      redis.call('HSET', mark.task, 'cancel', now, 'cancelled_by', said[2])
      again = true
    end
  end
  if again then
    write('ZINCRBY', mark.cancelling, 1, mark.work)
    redis.call('PUBLISH', mark.changed, 'cancels')
  end
end
