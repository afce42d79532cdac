-- Rings the queue's own doorbell: an entry without a task, field `w`. Of the consumers that wait, the one
-- that is given it looks for entries that were given back. Nobody is rung when nobody else is there.
local function ring(stream, group, me, returned)
  local members = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if members.err then return end
  for _, member in ipairs(members) do
    if member[2] ~= me and member[2] ~= returned then
      redis.pcall('XADD', stream, '*', 'w', '1')
      return
    end
  end
end

-- Gives one pending entry back: nobody's, at its old place. It counts as delivered at least `least` times
-- (1: somebody may have begun it), and giving it back is not a failure of its own.
local function give_back(stream, group, returned, id, count, least)
  redis.call('XCLAIM', stream, group, returned, 0, id, 'RETRYCOUNT', math.max(count - 1, least), 'JUSTID')
end
