-- Positions in a stream, compared. What is none (somebody wrote it by hand) counts as the beginning.
local function parts(position)
  local ms, seq = string.match(position, '^(%d+)%-(%d+)$')
  return tonumber(ms) or 0, tonumber(seq) or 0
end

-- Whether one position is before another.
local function is_before(one, other)
  local a, b = parts(one)
  local c, d = parts(other)
  return a < c or a == c and b < d
end
