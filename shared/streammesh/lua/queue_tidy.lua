#!lua flags=allow-oom
-- Removes consumers from a group that hold nothing and were not heard of for long: their processes died.
-- KEYS streams (STREAM, each)
-- ARGS group, me (the consumer who asks), silent (for this long, ms)
-- Returns how many were removed.
local removed = 0
for _, stream in ipairs(streams) do
  local members = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if not members.err then
    for _, row in ipairs(members) do
      local of = {}
      for i = 1, #row, 2 do of[row[i]] = row[i + 1] end
      if of.name ~= me and of.pending == 0 and of.idle > silent then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, of.name)
        removed = removed + 1
      end
    end
  end
end
return removed
