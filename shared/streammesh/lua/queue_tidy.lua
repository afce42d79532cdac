#!lua flags=allow-oom
-- Removes consumers from a group that hold nothing and were not heard of for long: their processes died.
-- KEYS[1] and on: streams (STREAM)
-- ARGV[1] group  ARGV[2] consumer who asks  ARGV[3] silent for this long, ms
-- Returns how many were removed.
local removed = 0
for _, stream in ipairs(KEYS) do
  local members = redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[1])
  if not members.err then
    for _, row in ipairs(members) do
      local of = {}
      for i = 1, #row, 2 do of[row[i]] = row[i + 1] end
      if of.name ~= ARGV[2] and of.pending == 0 and of.idle > tonumber(ARGV[3]) then
        redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], of.name)
        removed = removed + 1
      end
    end
  end
end
return removed
