"""Get started: train a PyTorch classifier with GAIRAT on scikit-learn's digits, and attack it. Half a minute.

python examples/get_started_pytorch.py
"""

import torch
from art.estimators.classification import PyTorchClassifier
from sklearn.datasets import load_digits

from art_gair import AdversarialTrainerGAIRAT, GeometryAwarePGD, evaluate_robustness

# 1. Data: arrays x (n, *input_shape) and labels y (n,).
x, y = load_digits(return_X_y=True)
x_train, y_train, x_val, y_val, x_test, y_test = x[:1300], y[:1300], x[1300:1500], y[1300:1500], x[1500:], y[1500:]

# 2. Your model, its loss and its optimizer, as an ART classifier; clip_values bound what an attack may do.
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
classifier = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (64,), 10, optimizer, clip_values=(0.0, 16.0))

# 3. The attack to train against, and the trainer; the epoch is kept that withstands two attacks best.
attack = GeometryAwarePGD(classifier, eps=2.0, eps_step=0.5, max_iter=10)
trainer = AdversarialTrainerGAIRAT(classifier, attack)
judges = [attack, attack.with_loss("margin")]
trainer.fit(x_train, y_train, (x_val, y_val), nb_epochs=15, validation_attack=judges, keep_best=True, seed=0)

# 4. How robust is it? The worst of several attacks counts.
print(f"\nbest epoch: {trainer.best_epoch}\n{evaluate_robustness(classifier, x_test, y_test, eps=2.0).table()}")
