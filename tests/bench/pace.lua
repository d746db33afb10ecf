-- People read before they ask again: each connection rests for some milliseconds between two requests.
function delay()
  return math.random(4, 12)
end
